"""Standard input beside the flags that name a prompt."""

import os
import sys

import pytest

from sample.command.console import asked_rows


@pytest.fixture
def standard_input(tmp_path, monkeypatch):
    """Makes standard input a file of this text, from this place on, or a pipe."""
    opened = []

    def make(text: bytes, place: int | None = None) -> None:
        if place is None:
            number, write = os.pipe()
            os.write(write, text)
            os.close(write)
        else:
            (tmp_path / "input").write_bytes(text)
            number = os.open(tmp_path / "input", os.O_RDONLY)
            os.lseek(number, place, os.SEEK_SET)
        opened.append(os.fdopen(number))
        monkeypatch.setattr(sys, "stdin", opened[-1])

    yield make
    for file in opened:
        file.close()


def test_a_text_that_a_flag_would_leave_unread_is_refused(standard_input, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.write_text("b")
    for source in ((b"a text",), (b"a text", 0)):
        standard_input(*source)
        for flags in (("a", None), (None, str(prompts))):
            with pytest.raises(ValueError, match="do not read the text on standard input"):
                asked_rows(*flags)
        assert asked_rows(None, None)[0].messages[0]["content"] == "a text"
    # Nothing waits in a closed pipe, an empty file, or the file of a shell's loop.
    for source in ((b"",), (b"", 0), (b"a\nb\n", 2)):
        standard_input(*source)
        assert asked_rows("a", None)[0].messages[0]["content"] == "a"


def test_the_null_device_and_a_closed_input_are_no_text(monkeypatch):
    with open(os.devnull) as null:
        monkeypatch.setattr(sys, "stdin", null)
        assert asked_rows("a", None)
    assert asked_rows("a", None)  # now closed
