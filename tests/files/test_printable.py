"""Text for terminals: nothing in it steers them, and nothing is hidden."""

import pytest

from files.printable import printable, tell


def test_what_steers_terminals_is_not_printed():
    assert printable("a\x1b[2J\r\tb\n\x9b1m\ud800") == "a\ufffd[2J\ufffd    b\n\ufffd1m\ufffd"


@pytest.mark.parametrize("code", [0x202E, 0x2066, 0x200F, 0x61C, 0x200B, 0x2060, 0xFEFF, 0xE0041])
def test_what_hides_is_not_printed(code):
    assert printable(f"a{chr(code)}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f680",  # an astronaut
        "\u2764\ufe0f\u200d\U0001f525",  # a heart on fire
        "\u0915\u094d\u200d\u0937",  # letters of Devanagari, not joined into one
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # "I want" in Persian
        "für 日本 e\u0301 \u0600",
    ],
)
def test_what_a_script_needs_is_printed(text):
    assert printable(text) == text


def test_joiners_that_only_hide_are_not_printed():
    assert printable("pay\u200dpal \u200d\u200c") == "pay\ufffdpal \ufffd\ufffd"
    assert printable("\u0915\u200d\u200d") == "\u0915\u200d\ufffd"
    assert printable("\u200d") == "\ufffd" and printable("\u200d", "\u0915") == "\u200d"


def test_a_line_on_stderr_is_printable(capsys):
    tell("a\x1b]0;b\x07\u202e")
    assert capsys.readouterr() == ("", "a\ufffd]0;b\ufffd\ufffd\n")
