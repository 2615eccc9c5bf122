"""Standard input and output, each of which is a terminal or a pipe."""

import shutil
import sys
from pathlib import Path

from data.text.printable import printable
from sample.command.canvas_view import DIM, PLAIN
from sample.command.prompt_rows import PromptRow, from_text, read_rows
from sample.command.session import Answer


def asked_rows(prompt: str | None, file: str | None) -> list[PromptRow] | None:
    """The prompts: the one given, else the lines of a file, else all that is piped in as one.

    Args:
      prompt: the text of --prompt.
      file: the path of --prompts.

    Returns:
      the rows; None for a chat, if standard input is a terminal.

    Raises:
      OSError, ValueError: the file cannot be read, or is empty.
    """
    if prompt is not None:
        return [from_text(prompt)]
    if file is not None:
        return read_rows(Path(file))
    if sys.stdin.isatty():
        return None
    return [from_text(sys.stdin.read().removesuffix("\n"))]


def read_line() -> str | None:
    """Reads a line from the terminal; None at the end of the input."""
    try:
        if sys.stdout.isatty():
            return input("> ")  # lets the user edit the line
        print("> ", end="", file=sys.stderr, flush=True)
        return input()
    except EOFError:
        print(file=sys.stderr)
        return None


def show(answer: Answer, thoughts: bool) -> None:
    """Prints an answer: unchanged into a pipe, without control characters on a terminal.

    Args:
      answer: what the model made of a prompt.
      thoughts: whether to print the model's thoughts before it.
    """
    terminal = sys.stdout.isatty()
    if thoughts and answer.turn.thoughts:
        said = answer.turn.thoughts
        print(f"{DIM}{printable(said)}{PLAIN}\n" if terminal else f"{said}\n")
    print(printable(answer.turn.answer) if terminal else answer.turn.answer, flush=True)


def complain(line: str) -> None:
    """Prints a line on stderr."""
    print(line, file=sys.stderr, flush=True)


def terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
    return shutil.get_terminal_size()
