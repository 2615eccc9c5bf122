"""Standard input and output: a terminal or a pipe."""

import shutil
import sys
from pathlib import Path

from sample.command.canvas_view import DIM, PLAIN, printable
from sample.command.prompt_rows import Row, from_text, read_rows
from sample.command.session import Answer


def asked_rows(prompt: str | None, file: str | None) -> list[Row] | None:
    """What is asked: a prompt, the lines of a file, or all that is piped in; None for a chat.

    Raises:
      OSError, ValueError: it cannot be read, or is empty.
    """
    if prompt is not None:
        return [from_text(prompt)]
    if file is not None:
        return read_rows(Path(file))
    if sys.stdin.isatty():
        return None
    return [from_text(sys.stdin.read().removesuffix("\n"))]


def read_line() -> str | None:
    """A line from the terminal; None at its end."""
    try:
        if sys.stdout.isatty():
            return input("> ")  # with the line editing of readline
        print("> ", end="", file=sys.stderr, flush=True)
        return input()
    except EOFError:
        print(file=sys.stderr)
        return None


def show(answer: Answer, thoughts: bool) -> None:
    """Prints an answer: to the character into a pipe, without control characters on a terminal."""
    terminal = sys.stdout.isatty()
    if thoughts and answer.turn.thoughts:
        said = answer.turn.thoughts
        print(f"{DIM}{printable(said)}{PLAIN}\n" if terminal else f"{said}\n")
    print(printable(answer.turn.answer) if terminal else answer.turn.answer, flush=True)


def complain(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)


def terminal_size() -> tuple[int, int]:
    """Columns and lines."""
    return shutil.get_terminal_size()
