"""Matches texts with a regular expression that came with somebody's files or requests.

Python's expressions may take longer than anybody can wait, as "(a+)+b" does. So they are matched in
a helper process with little time and memory (limited.py).
"""

import re
from collections.abc import Iterable

from files.limited import limited


def matching(pattern: str, texts: Iterable[str], *, whole: bool) -> list[str]:
    """Those of the texts that a regular expression of Python's matches.

    Args:
      pattern: the expression.
      texts: the texts, in any order.
      whole: whether it must match all of a text, or a part of it.

    Raises:
      ValueError: it is not a regular expression, or it takes too much time or memory.
    """
    texts = tuple(texts)
    found = limited("files.foreign_pattern:_matched")(pattern, whole, texts)
    return [text for text, matches in zip(texts, found, strict=True) if matches == "1"]


def find_places(pattern: str, text: str) -> list[tuple[int, int]]:
    """(start, stop) of all that a regular expression of Python's finds in a text, in order.

    Raises:
      ValueError: it is not a regular expression, or it takes too much time or memory.
    """
    found = limited("files.foreign_pattern:_found")(pattern, text)
    return [(int(start), int(stop)) for start, stop in map(str.split, found.splitlines())]


def _found(pattern: str, text: str) -> str:
    """A line with start and stop for each place."""
    spans = (found.span() for found in re.finditer(pattern, text))
    return "\n".join(f"{start} {stop}" for start, stop in spans)


def _matched(pattern: str, whole: bool, texts: tuple[str, ...]) -> str:
    """ "1" for each text that matches, and "0" for each other one."""
    expression = re.compile(pattern)
    match = expression.fullmatch if whole else expression.search
    return "".join(str(int(match(text) is not None)) for text in texts)
