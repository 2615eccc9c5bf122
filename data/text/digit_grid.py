"""Grids of digits as text."""

import numpy as np
from numpy.typing import ArrayLike


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
