"""Text that a terminal shows and does not obey, and that hides nothing.

Names of tensors, fields of configs, answers of a model and messages of a template come from
somebody else. All that is said on stderr goes through `tell`, and answers go through `printable` on
their way to a terminal. Answers that go into pipes and files stay as they are.

Two invisible characters stay where they have a use. The zero-width joiner makes one emoji of
several, and it and the zero-width non-joiner choose the forms of letters in Persian and in the
scripts of India. Next to Latin, Greek and Cyrillic letters, digits and signs they do nothing but
hide, so that two words look like one, and they are replaced there.
"""

import re
import sys
import unicodedata

BROKEN = "\ufffd"  # stands for what is not shown
_JOINERS = "\u200c\u200d"
# Characters that change the order of those around them, take no room, or tag text invisibly.
_HIDING = re.compile(
    "[\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_JOINED_FROM = "\u0590"  # the first character of scripts that are joined; emoji come later


def printable(text: str, before: str = "") -> str:
    """The text with BROKEN in place of what could control a terminal or hide something.

    Args:
      text: the text. Its line ends stay, and tabs become four spaces.
      before: the character that stands before the text; "" if there is none.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = []
    for character in text.replace("\t", "    "):
        shown.append(character if _is_shown(character, before) else BROKEN)
        before = character
    return "".join(shown)


def tell(line: str) -> None:
    """Prints a line on stderr, as `printable` makes it."""
    print(printable(line), file=sys.stderr, flush=True)


def _is_shown(character: str, before: str) -> bool:
    if character in _JOINERS:
        return before >= _JOINED_FROM and before not in _JOINERS
    if character == "\n":
        return True
    return unicodedata.category(character) not in ("Cc", "Cs") and not _HIDING.match(character)
