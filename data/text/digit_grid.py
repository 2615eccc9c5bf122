"""Grids of digits as text."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from data.text.parts import Part


def render(digits: ArrayLike, columns: int) -> str:
    """Writes digits in lines of `columns` with single spaces between them.

    Every row of a grid has a line of its own, as a person would write it. The line ends also tell
    the causal encoder where a digit stands in its row, because it learns to predict them.

    Args:
      digits: integers of any shape, taken in reading order.
      columns: the number of digits in a line. The last line may be shorter.
    """
    words = [str(int(digit)) for digit in np.ravel(digits)]
    lines = [words[i : i + columns] for i in range(0, len(words), columns)]
    return "\n".join(" ".join(line) for line in lines)


def grid_parts(
    digits: ArrayLike, columns: int, cell: Callable[[int, str, str], Part]
) -> list[Part]:
    """Cuts the text of `render` into a part for each digit and a kept part for each line end.

    Args:
      digits, columns: as in `render`.
      cell: makes the part of a digit. It gets the digit's number in reading order, the space before
        the digit ("" at the start of a line), and the digit's text with this space.
    """
    parts = []
    for i, digit in enumerate(np.ravel(digits)):
        space = " " if i % columns else ""
        if i and not space:
            parts.append(Part("\n", "kept"))
        parts.append(cell(i, space, f"{space}{int(digit)}"))
    return parts


def digit_places(pieces: Sequence[str], count: int) -> list[int] | None:
    """The positions of digits among the texts of tokens; None unless there are `count` of them."""
    places = [i for i, piece in enumerate(pieces) if digit_of(piece) >= 0]
    return places if len(places) == count else None


def digit_of(piece: str) -> int:
    """The digit that a token's text stands for; -1 if the text is no digit."""
    piece = piece.strip()
    return int(piece) if len(piece) == 1 and piece in "0123456789" else -1
