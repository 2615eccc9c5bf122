"""Messages of one line and of several, from a list of lines and from a real terminal."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from data.sudoku.grids import prompt
from sample.command.typed import Typed, read_typed, unquoted

PUZZLE = "000070000507490030436058702640280309390001006000000801780000000003824160062739580"
# A program that prints each message which it reads from its terminal, without JAX.
READER = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "plain": sys.modules["readline"] = None
sys.path.insert(0, sys.argv[2])
import typed
def read():
    try:
        return typed.read_typed(typed.read_line)
    except ValueError as error:
        return typed.Typed(str(error))
for said in iter(read, None):
    print("READ", repr(said.text), flush=True)
"""


def messages(*lines: str) -> list[Typed]:
    rest = iter(lines)
    return list(iter(lambda: read_typed(lambda prompt: next(rest, None)), None))


def test_a_line_or_a_paste_is_one_message():
    assert messages("2 + 2?", "a\n\nb\n", "") == [Typed("2 + 2?"), Typed("a\n\nb"), Typed("")]


def test_quotes_hold_several_lines():
    assert messages('"""', "a", "", "/b", '"""', "c") == [Typed("a\n\n/b", True), Typed("c")]
    assert messages('"""a', 'b"""') == [Typed("a\nb", True)]
    assert messages(' """/a""" ') == [Typed("/a", True)]
    assert messages('"""\na\n b\n"""\n') == [Typed("a\n b", True)]  # pasted
    assert messages('"""a', "b") == [Typed("a\nb", True)]  # the end of the input
    # A pasted program is whole, although its docstring is closed elsewhere.
    program = '"""What it does."""\nprint(1)'
    assert messages(program, "a") == [Typed(program), Typed("a")]
    program = '"""What it does."""\nprint("""a""")\nb = """c"""'
    assert messages(program) == [Typed(program)] and unquoted('"""') is None
    # Only quotes at the end of a line end a message.
    assert messages('"""a""" and """b"""', "c") == [Typed('a""" and """b', True), Typed("c")]
    assert messages('"""a""" and', 'b"""', "c") == [Typed('a""" and\nb', True), Typed("c")]


@pytest.mark.parametrize("kind", ["readline", "plain"])
def test_the_projects_sudoku_prompt_can_be_pasted(kind):
    """With GNU readline if this Python has it, and without."""
    asked = prompt([int(digit) for digit in PUZZLE])
    room = str(Path(__file__).parents[3] / "sample" / "command")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", READER, kind, room],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""

    def until(what: bytes) -> None:
        nonlocal seen
        while what not in seen:
            assert select.select([ours], [], [], 20)[0], seen
            seen += os.read(ours, 4096)
        seen = seen.partition(what)[2]

    # A terminal sends a paste with the line ends of the Enter key, between the two marks.
    pasted = asked.replace("\n", "\r").encode()
    until(b"\x1b[?2004h")
    os.write(ours, b"\x1b[200~" + pasted + b"\x1b[201~\r")
    until(f"READ {asked!r}".encode())
    if kind == "plain":  # the terminal loses the end of a long line, and the mark with it
        for line in (b"a" * 5000, b"b\r" + b"a" * 5000):
            os.write(ours, b"\x1b[200~" + line + b"\x1b[201~\r")
            until(b"the terminal cuts off lines after 4095 bytes")
            until(b"> ")
    os.write(ours, b"next\r")
    until(b"READ 'next'")
    until(b"> ")
    os.write(ours, b"\x04")
    assert child.wait(20) == 0
    os.close(ours)
