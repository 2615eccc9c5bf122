"""Matches texts with a regular expression that came with somebody's files.

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
    found = limited("files.foreign_pattern:_matched")(pattern, whole, data=(texts,))
    return [text for text, matches in zip(texts, found, strict=True) if matches == "1"]


def _matched(pattern: str, whole: bool, texts: tuple[str, ...]) -> str:
    """ "1" for each text that matches, and "0" for each other one."""
    expression = re.compile(pattern)
    match = expression.fullmatch if whole else expression.search
    return "".join(str(int(match(text) is not None)) for text in texts)
