"""What is typed at the prompt of a chat: a line, a paste of many lines, or a text in quotes."""

import functools
import sys
import termios
from collections.abc import Callable
from typing import NamedTuple

QUOTES = '"""'
PROMPT, MORE = "> ", "... "
# What a terminal is told so that it marks the two ends of a paste, and its marks.
MARK_PASTES, NO_MARKS = "\x1b[?2004h", "\x1b[?2004l"
LINE = 4096  # bytes of the longest line that a terminal of Linux hands on, with its line end
PASTE, PASTE_END = "\x1b[200~", "\x1b[201~"


class Typed(NamedTuple):
    """One message.

    Attributes:
      text: the message.
      quoted: whether it was given in quotes. Such a text is never a command.
    """

    text: str
    quoted: bool = False


def read_typed(read_line: Callable[[str], str | None]) -> Typed | None:
    '''Reads one message.

    A paste is one message, whatever lines it has. A line that begins with """ begins a message that
    goes on until a line ends with """, or until the end of the input. Other quotes are text.

    Args:
      read_line: shows a prompt, and gives a line or a paste, or None at the end of the input.

    Returns:
      the message; None at the end of the input.
    '''
    text = read_line(PROMPT)
    if text is None:
        return None
    text = text.removesuffix("\n")  # of a paste of whole lines
    if (inside := unquoted(text)) is not None:
        return Typed(inside, quoted=True)
    # A paste that begins with quotes, such as a program with a docstring, is whole as it is.
    if "\n" in text or not text.lstrip().startswith(QUOTES):
        return Typed(text)
    lines = [text.lstrip().removeprefix(QUOTES)]
    while (line := read_line(MORE)) is not None:
        if line.rstrip().endswith(QUOTES):
            lines.append(line.rstrip().removesuffix(QUOTES))
            break
        lines.append(line)
    return Typed(_without_edges("\n".join(lines)), quoted=True)


def unquoted(text: str) -> str | None:
    '''The text between """ and """; None if the text is not all in such quotes.

    It is not if a line before the last ends with """.
    '''
    whole = text.strip()
    if len(whole) < 2 * len(QUOTES) or not (whole.startswith(QUOTES) and whole.endswith(QUOTES)):
        return None
    inside = whole[len(QUOTES) : -len(QUOTES)]
    closed = any(line.rstrip().endswith(QUOTES) for line in inside.split("\n")[:-1])
    return None if closed else _without_edges(inside)


def read_line(prompt: str) -> str | None:
    """Reads a line or a paste from the terminal; None at the end of the input.

    A paste may have many lines. With GNU readline, all that is typed can be edited, and earlier
    messages come back with the arrow keys.

    Raises:
      ValueError: the terminal has cut off the end of a line.
    """
    if _has_readline():
        try:
            return input(prompt)
        except EOFError:
            print(file=sys.stderr)
            return None
    marks = (MARK_PASTES, NO_MARKS) if sys.stderr.isatty() else ("", "")
    print(f"{marks[0]}{prompt}", end="", file=sys.stderr, flush=True)
    try:
        text = line = _whole_line()
        while line and text.count(PASTE) > text.count(PASTE_END):
            text += (line := _whole_line())
    finally:
        print(end=marks[1], file=sys.stderr, flush=True)
    if not text:
        print(file=sys.stderr)
    return text.replace(PASTE, "").replace(PASTE_END, "").removesuffix("\n") if text else None


def _whole_line() -> str:
    line = sys.stdin.readline()  # not input(), which would call libedit
    if len(line.encode(errors="surrogateescape")) >= LINE and sys.stdin.isatty():
        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # the rest of the paste
        raise ValueError(
            f"the terminal cuts off lines after {LINE - 1} bytes: put the text into a file for "
            "--prompts, or chat with stdout on the terminal"
        )
    return line


@functools.cache
def _has_readline() -> bool:
    """Whether GNU readline reads lines. It then takes a marked paste as one line.

    Some Pythons have libedit in its place, which does not know the marks. The terminal's own
    editing of a line serves then.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        import readline
    except ImportError:
        return False
    ours = "GNU readline" in (readline.__doc__ or "")
    if ours:
        readline.parse_and_bind("set enable-bracketed-paste on")
    return ours


def _without_edges(text: str) -> str:
    """The text without the line ends next to its quotes."""
    return text.removeprefix("\n").removesuffix("\n")
