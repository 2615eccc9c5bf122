"""Text for terminals: nothing in it steers them."""

from files.printable import printable


def test_what_steers_terminals_is_not_printed():
    assert printable("a\x1b[2J\r\tb\n") == "a\ufffd[2J\ufffd    b\n"
