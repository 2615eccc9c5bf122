"""Text that a terminal shows and does not obey."""

import unicodedata


def printable(text: str) -> str:
    """The text with "\ufffd" in place of characters that could control a terminal."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd"
        for c in text.replace("\t", "    ")
    )
