"""Texts that know which of their special tokens have an effect.

People write about special tokens: "What does <pad> mean?". Such a mention must stay plain text,
while the special tokens of a chat template must have their effect. So a prompt is more than a
string: it is a MarkedText, which says where its special tokens are. `Tokenizer.encode` takes
everything else for plain text.

While a text is written and cut, each special token that has an effect stands between two marks. The
marks are halves of surrogate pairs. UTF-8 has no such characters, so no text that can be encoded
contains them.
"""

import dataclasses
import re
from collections.abc import Iterable

START, END = "\ud800", "\ud801"
_MARKED = re.compile(f"{START}([^{START}{END}]*){END}")


@dataclasses.dataclass(frozen=True)
class MarkedText:
    """A text, and the places of those special tokens in it that have an effect.

    Attributes:
      text: the text, with its special tokens.
      special: (start, end) of each special token that has an effect, in order; None if every
        special token in the text has its effect.
    """

    text: str
    special: tuple[tuple[int, int], ...] | None = ()

    @classmethod
    def read(cls, marked: str) -> "MarkedText":
        """Reads a string in which the special tokens stand between marks."""
        pieces, places, start, end = [], [], 0, 0
        for found in _MARKED.finditer(marked):
            pieces += [unmark(marked[end : found.start()]), found[1]]
            start += len(pieces[-2])
            places.append((start, start + len(found[1])))
            start, end = places[-1][1], found.end()
        return cls("".join([*pieces, unmark(marked[end:])]), tuple(places))

    def __str__(self) -> str:
        return self.text

    def marked(self, tokens: re.Pattern[str]) -> str:
        """The text with marks around its special tokens.

        Args:
          tokens: finds the special tokens if every special token has its effect.
        """
        if self.special is None:
            return mark(self.text, tokens)
        pieces, end = [], 0
        for start, stop in self.special:
            pieces += [self.text[end:start], START, self.text[start:stop], END]
            end = stop
        return "".join([*pieces, self.text[end:]])


def token_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of these tokens, and the longest of those that begin at a place."""
    longest = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)))


def between_marks(token: str) -> str:
    """A special token with marks around it."""
    return f"{START}{token}{END}"


def mark(text: str, tokens: re.Pattern[str]) -> str:
    """The text with every token that the pattern finds between marks."""
    return tokens.sub(lambda found: between_marks(found[0]), text)


def unmark(text: str) -> str:
    """The text without marks."""
    return text.replace(START, "").replace(END, "")
