"""Texts that a model fills in or edits, in pieces: texts that stay, holes, and spans.

A hole is written into a text as <fill:12>, which takes at most 12 tokens, or as <fill:4-24>, for
which several lengths are tried. An edit names the spans of a text that may change: by a regular
expression of Python (what it matches, as a whole), or by the numbers of lines, such as 3-5,9.
Digits, commas and hyphens alone are numbers of lines. The ends of lines are never part of a span,
except for those within a range of lines.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from files.foreign_pattern import find_places
from files.limited import LimitError

LARGEST = 999_999  # tokens of a hole; no context has room for more
TRIES = 6  # most lengths of a hole that are tried
_BEGIN = re.compile(r"<fill(?=[:>]|\s*[0-9])")
_HOLE = re.compile(r"<fill:([0-9]+)(?:-([0-9]+))?>")
_UP_TO = re.compile(r"[^<>\n]*")
_LINES = re.compile(r"\s*[0-9]+(?:\s*-\s*[0-9]+)?(?:\s*,\s*[0-9]+(?:\s*-\s*[0-9]+)?)*\s*")


class Hole(NamedTuple):
    """A place for tokens.

    Attributes:
      least, most: the smallest and the largest number of tokens that are tried.
    """

    least: int
    most: int

    @property
    def lengths(self) -> list[int]:
        """The lengths to try: at most TRIES, evenly spaced, with both ends among them."""
        spread = self.most - self.least
        return sorted({self.least + spread * i // (TRIES - 1) for i in range(TRIES)})


class Span(NamedTuple):
    """A text that may change, within as many tokens as it has."""

    text: str


# Neighbours are never two texts or two spans.
Pieces = tuple[str | Hole | Span, ...]


def piece_text(piece: str | Hole | Span) -> str:
    """The text of a piece; "" for a hole."""
    if isinstance(piece, Hole):
        return ""
    return piece.text if isinstance(piece, Span) else piece


def read_pieces(fill: str | None, edit: str | None, spans: str | None) -> Pieces | None:
    """The pieces of what is asked of a canvas.

    Args:
      fill: a text with holes.
      edit: a text that is to change.
      spans: where it may change.

    Returns:
      the pieces; None if neither a fill nor an edit is given.

    Raises:
      ValueError: these do not go together, or one of them cannot be used. The error says which.
    """
    if fill is not None and edit is not None:
        raise ValueError("both fill and edit: give one of them")
    if spans is not None and edit is None:
        raise ValueError("spans without edit: they say where the text of an edit may change")
    if edit is not None and spans is None:
        raise ValueError(
            "edit without spans: say where the text may change, as a regular expression or as "
            "numbers of lines"
        )
    given = {"fill": fill, "edit": edit, "spans": spans}
    for name, text in given.items():
        if text is None:
            continue
        if not isinstance(text, str):
            raise ValueError(f"{name}: expected text")
        if not text:
            raise ValueError(f"{name}: the text is empty")
        if "\0" in text:
            raise ValueError(f"{name}: the text has a NUL character")
    if fill is not None:
        return _with_holes(fill)
    return None if edit is None else _with_spans(edit, spans)


def source(pieces: Pieces) -> str | None:
    """The text of an edit before it; None for a text with holes."""
    texts = [piece.text if isinstance(piece, Span) else piece for piece in pieces]
    return None if any(isinstance(text, Hole) for text in texts) else "".join(texts)


def _with_holes(text: str) -> Pieces:
    pieces, end = [], 0
    for number, begin in enumerate(_BEGIN.finditer(text), 1):
        hole = _hole(text, begin.start(), number)
        pieces += [text[end : begin.start()], hole]
        end = _HOLE.match(text, begin.start()).end()
    if not pieces:
        raise ValueError(
            "fill: the text has no hole: write <fill:12> where the model is to write at most 12 "
            "tokens"
        )
    return tuple(piece for piece in (*pieces, text[end:]) if piece != "")


def _hole(text: str, at: int, number: int) -> Hole:
    found = _HOLE.match(text, at)
    written = found[0] if found else text[at : _UP_TO.match(text, at + 1).end() + 1]
    place = f"fill: hole {number}, {' '.join(written[:40].split())}"
    if not found:
        if written.endswith("<") and _BEGIN.match(text, at + len(written) - 1):
            raise ValueError(f"{place}: there is another hole in it")
        if not written.endswith(">"):
            raise ValueError(f"{place}: it has no > at its end")
        raise ValueError(f"{place}: give its number of tokens, as <fill:12> or <fill:4-24> do")
    ends = [end for end in found.groups() if end]
    if any(len(end.lstrip("0")) > len(str(LARGEST)) for end in ends):
        raise ValueError(f"{place}: a hole has at most {LARGEST:,} tokens")
    least, most = int(ends[0]), int(ends[-1])
    if least < 1:
        raise ValueError(f"{place}: a hole has at least 1 token")
    if most < least:
        raise ValueError(f"{place}: the range runs backwards: write <fill:{most}-{least}>")
    return Hole(least, most)


def _with_spans(text: str, spans: str) -> Pieces:
    places = _lines(text, spans) if _LINES.fullmatch(spans) else _matches(text, spans)
    pieces, end = [], 0
    for start, stop in _joined(places):
        pieces += [text[end:start], Span(text[start:stop])]
        end = stop
    if not pieces:
        raise ValueError(f"spans: {spans[:40]} finds no text that could change")
    return tuple(piece for piece in (*pieces, text[end:]) if piece != "")


def _lines(text: str, spans: str) -> list[tuple[int, int]]:
    lines = text.removesuffix("\n").split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    places = []
    for part in spans.split(","):
        ends = [end.strip().lstrip("0")[:9] or "0" for end in part.split("-")]
        first, last = int(ends[0]), int(ends[-1])
        if first < 1:
            raise ValueError("spans: lines are counted from 1")
        if last < first:
            raise ValueError(f"spans: {part.strip()} runs backwards")
        if last > len(lines):
            count = f"{len(lines)} line{'s' * (len(lines) > 1)}"
            raise ValueError(f"spans: there is no line {last}: the text has {count}")
        places.append((starts[first - 1], starts[last - 1] + len(lines[last - 1].rstrip("\r"))))
    return places


def _matches(text: str, spans: str) -> list[tuple[int, int]]:
    try:
        return find_places(spans, text)
    except LimitError as error:
        raise ValueError(f"spans: {error}: use a simpler expression") from None
    except ValueError as error:
        raise ValueError(f"spans: not a regular expression: {error}") from None


def _joined(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places in order, without empty ones; those that touch or overlap become one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(place for place in places if place[0] < place[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined
