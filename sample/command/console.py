"""Standard input and output, each of which is a terminal or a pipe."""

import json
import shutil
import sys
from pathlib import Path

from data.text.printable import printable
from sample.command.answer import Answer
from sample.command.canvas_view import DIM, PLAIN
from sample.command.prompt_rows import PromptRow, from_text, piped_rows, read_rows
from sample.command.typed import unquoted


def asked_rows(prompt: str | None, file: str | None) -> list[PromptRow] | None:
    '''The prompts: the one given, else those of a file, else what is piped in: records or one text.

    Quotes around all of a piped text (""") are left out, as they are in a chat.

    Args:
      prompt: the text of --prompt.
      file: the path of --prompts; "-" is standard input.

    Returns:
      the rows; None for a chat, if standard input is a terminal.

    Raises:
      OSError, ValueError: the file cannot be read, or is empty.
    '''
    if prompt is not None:
        return [from_text(prompt)]
    if file is not None:
        return read_rows(Path("/dev/stdin" if file == "-" else file))
    if sys.stdin.isatty():
        return None
    text = sys.stdin.read().removesuffix("\n")
    inside = unquoted(text)
    return piped_rows(text) if inside is None else [from_text(inside)]


def show(answer: Answer, thoughts: bool) -> None:
    """Prints an answer: unchanged into a pipe, without control characters on a terminal.

    Only text goes to stdout. Tool calls go to stderr, and on a terminal also a word if the answer
    was cut off.

    Args:
      answer: what the model made of a prompt.
      thoughts: whether to print the model's thoughts before it.
    """
    terminal = sys.stdout.isatty()
    if thoughts and answer.turn.thoughts:
        said = answer.turn.thoughts
        print(f"{DIM}{printable(said)}{PLAIN}\n" if terminal else f"{said}\n")
    print(printable(answer.turn.answer) if terminal else answer.turn.answer, flush=True)
    for call in [call.record() for call in answer.turn.tool_calls]:
        told = json.dumps(call.get("function", call), ensure_ascii=False)
        complain(f"tool call: {printable(told)}")
    if answer.finish_reason == "length" and sys.stderr.isatty():
        tokens = answer.generated_tokens
        complain(f"(cut off after {tokens} tokens: --max-new-tokens=N allows more)")


def complain(line: str) -> None:
    """Prints a line on stderr."""
    print(line, file=sys.stderr, flush=True)


def counted(count: int, noun: str) -> str:
    """A number and a noun, such as "1 answer" and "2 answers"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
    return shutil.get_terminal_size()
