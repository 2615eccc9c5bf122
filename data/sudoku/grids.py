"""Sudoku grids as text and as arrays, and a checker that shares nothing with the solver.

A grid is a flat int8 array [n*n] with n = box**2, row by row, with 0 for an empty cell. box is 3
for 9x9 and 2 for 4x4.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from data.text import digit_grid

PROMPT = "Solve the sudoku:\n{grid}"


def render(grid: ArrayLike) -> str:
    """The digits of a grid, one line for each row, separated by single spaces; 0 is empty."""
    return digit_grid.render(grid, math.isqrt(np.size(grid)))


def prompt(puzzle: ArrayLike) -> str:
    """The user's message for a puzzle."""
    return PROMPT.format(grid=render(puzzle))


def digits(grid: ArrayLike) -> str:
    """The digits of a grid in one word without separators, as puzzle files have them."""
    return "".join(str(int(digit)) for digit in np.ravel(grid))


def parse(text: str, box: int) -> np.ndarray | None:
    """Reads a model's answer as a grid.

    Returns:
      int8 [n*n], or None unless the text is exactly n*n digits 1..n separated by white space. The
      function never raises.
    """
    n = box * box
    tokens = text.split() if isinstance(text, str) else []
    if len(tokens) != n * n or not {str(d) for d in range(1, n + 1)}.issuperset(tokens):
        return None
    return np.array([int(token) for token in tokens], np.int8)


def pretty(grid: ArrayLike) -> str:
    """A grid for people: lines between the boxes, and a dot for an empty cell."""
    box = round(np.size(grid) ** 0.25)
    symbols = np.reshape([str(d) if d > 0 else "." for d in np.ravel(grid)], (-1, box, box, box))
    lines = [" | ".join(" ".join(part) for part in row) for band in symbols for row in band]
    for band in range(box - 1, 0, -1):
        lines.insert(band * box, "+".join(["-" * (2 * box + 1)] * box)[1:-1])
    return "\n".join(lines)


def valid_solutions(grids: ArrayLike, box: int) -> np.ndarray:
    """Whether each row, column and box holds every digit once: integers [N, n*n] -> bool [N]."""
    n = box**2
    grids = np.asarray(grids)
    # Bit 0 stands for anything that is no digit, and is not in the full set.
    bits = np.left_shift(np.int16(1), np.where((grids >= 1) & (grids <= n), grids, 0))
    rows = bits.reshape(-1, n, n)
    boxes = bits.reshape(-1, box, box, box, box).swapaxes(2, 3).reshape(-1, n, n)
    units = np.concatenate([rows, rows.swapaxes(1, 2), boxes], axis=1)
    return (np.bitwise_or.reduce(units, axis=2) == 2 ** (n + 1) - 2).all(axis=1)


def is_valid_solution(grid: ArrayLike, box: int) -> bool:
    """Whether a grid [n*n] is full and breaks no rule; False for any other shape."""
    return np.shape(grid) == (box**4,) and bool(valid_solutions(np.asarray(grid)[None], box)[0])


def check(puzzle: ArrayLike, grid: ArrayLike, box: int) -> bool:
    """Whether a grid [n*n] is a valid solution that keeps every clue of the puzzle [n*n]."""
    clues = np.asarray(puzzle) != 0
    return is_valid_solution(grid, box) and np.array_equal(np.where(clues, puzzle, grid), grid)


def compare(
    puzzles: ArrayLike, solutions: ArrayLike, predictions: ArrayLike
) -> dict[str, np.ndarray]:
    """Compares answers with puzzles that have one solution each.

    Args:
      puzzles, solutions: integers [N, n*n], 0 for an empty cell.
      predictions: integers [N, n*n], the answers; -1 in every cell of an answer that is no grid.

    Returns:
      Arrays [N]:
        exact: bool, the answer is the solution.
        valid: bool, no row, column or box repeats a digit, whatever the clues are.
        clues_kept: bool, every clue stands in the answer.
        cells_right: float64, the share of right cells among those that are empty in the puzzle;
          among all cells for a puzzle without empty cells.
        cells_right_all: float64, the share of right cells among all.

    Raises:
      ValueError: the shapes differ.
    """
    puzzles, solutions, predictions = map(np.asarray, (puzzles, solutions, predictions))
    if puzzles.ndim != 2 or not puzzles.shape == solutions.shape == predictions.shape:
        raise ValueError(
            "expected three arrays of one shape [N, n*n], got "
            f"{puzzles.shape}, {solutions.shape} and {predictions.shape}"
        )
    right = predictions == solutions
    empty = puzzles == 0
    counted = empty | ~empty.any(axis=1, keepdims=True)
    parsed = (predictions >= 0).all(axis=1)
    return {
        "exact": right.all(axis=1),
        "valid": valid_solutions(predictions, math.isqrt(math.isqrt(puzzles.shape[1]))),
        "clues_kept": (empty | (predictions == puzzles)).all(axis=1) & parsed,
        "cells_right": (right & counted).sum(axis=1) / counted.sum(axis=1),
        "cells_right_all": right.mean(axis=1),
    }
