"""Standard input and output, each of which is a terminal or a pipe."""

import difflib
import fcntl
import json
import os
import shutil
import stat
import sys
import termios
from pathlib import Path

from data.text.holes import Pieces
from files.printable import printable, tell
from sample.command.answer import Answer
from sample.command.canvas_view import DIM, PLAIN
from sample.command.prompt_rows import PromptRow, from_pieces, from_text, piped_rows, read_rows
from sample.command.typed import unquoted

STDIN = ("-", "/dev/stdin", "/dev/fd/0")


def asked_rows(
    prompt: str | None, file: str | None, pieces: Pieces | None = None
) -> list[PromptRow] | None:
    '''The prompts: the one given, else those of a file, else what is piped in: records or one text.

    Quotes around all of a piped text (""") are left out, as they are in a chat.

    Args:
      prompt: the text of --prompt.
      file: the path of --prompts; "-" is standard input.
      pieces: the text of --fill or --edit, which takes the instruction from --prompt alone.

    Returns:
      the rows; None for a chat, if standard input is a terminal.

    Raises:
      OSError, ValueError: the file cannot be read, or is empty, or a text that was piped in would
        be left unread.
    '''
    if (pieces or prompt is not None or file not in (None, *STDIN)) and _input_waits():
        advice = "pipe in the whole prompt and leave the flag out, or keep the text away"
        names = "--prompt and --prompts"
        if pieces:
            names, advice = "--fill and --edit", "give it as --prompt, or keep it away"
        raise ValueError(
            f"{names} do not read the text on standard input: {advice} with </dev/null"
        )
    if pieces:
        return [from_pieces(pieces, prompt)]
    if prompt is not None:
        return [from_text(prompt)]
    if file is not None:
        return read_rows(Path("/dev/stdin" if file == "-" else file))
    if sys.stdin.isatty():
        return None
    text = sys.stdin.read().removesuffix("\n")
    inside = unquoted(text)
    return piped_rows(text) if inside is None else [from_text(inside)]


def _input_waits() -> bool:
    """Whether standard input is a pipe with bytes in it, or a file that nobody has begun to read.

    A shell that reads its script or the lines of a loop from a file has begun to read it.
    """
    try:
        number = sys.stdin.fileno()
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode):
            return found.st_size > 0 and os.lseek(number, 0, os.SEEK_CUR) == 0
        if not stat.S_ISFIFO(found.st_mode):
            return False
        waiting = fcntl.ioctl(number, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) > 0
    except (OSError, ValueError):  # closed, or no file at all
        return False


def show(answer: Answer, thoughts: bool) -> None:
    """Prints an answer: unchanged into a pipe, as `printable` makes it on a terminal.

    Only text goes to stdout. Tool calls and the changes of an edit go to stderr, and on a terminal
    also a word if the answer was cut off.

    Args:
      answer: what the model made of a prompt.
      thoughts: whether to print the model's thoughts before it.
    """
    terminal = sys.stdout.isatty()
    if thoughts and answer.turn.thoughts:
        said = answer.turn.thoughts
        print(f"{DIM}{printable(said)}{PLAIN}\n" if terminal else f"{said}\n")
    print(printable(answer.turn.answer) if terminal else answer.turn.answer, flush=True)
    if answer.before is not None:
        for line in changes(answer.before, answer.turn.answer):
            complain(line)
    for call in [call.record() for call in answer.turn.tool_calls]:
        told = json.dumps(call.get("function", call), ensure_ascii=False)
        complain(f"tool call: {told}")
    if answer.finish_reason == "length" and sys.stderr.isatty():
        tokens = answer.generated_tokens
        complain(f"(cut off after {tokens} tokens: --max-new-tokens=N allows more)")


def changes(before: str, after: str) -> list[str]:
    """The lines of a unified diff, or a line that says that nothing has changed."""
    lines = before.split("\n"), after.split("\n")
    return list(difflib.unified_diff(*lines, "before", "after", lineterm="")) or ["(no change)"]


def complain(line: str) -> None:
    """Prints a line on stderr."""
    tell(line)


def counted(count: int, noun: str) -> str:
    """A number and a noun, such as "1 answer" and "2 answers"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
    return shutil.get_terminal_size()
