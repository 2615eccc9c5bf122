"""Grids of digits as text."""

import numpy as np


def render(digits, columns: int) -> str:
    """Lines of `columns` digits, single spaces between them; the last line may be shorter.

    A line a row is what a person would write; it also lets the causal encoder see where in its row
    a digit stands, for it learns to predict the line's end.
    """
    words = [str(int(digit)) for digit in np.ravel(digits)]
    lines = [words[i : i + columns] for i in range(0, len(words), columns)]
    return "\n".join(" ".join(line) for line in lines)
