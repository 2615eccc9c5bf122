"""Boards of the grid items: the units of cells, the digits in them, and what looks like a Sudoku.

A grid is int64 [N] in reading order, with 0 for an empty cell.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ROW, COLUMN, BOX = 0, 1, 2
UNIT_NAMES = ("row", "column", "box")
# The least number of clues of any puzzle with a single solution, by box size.
FEWEST_CLUES = {2: 4, 3: 17}


@dataclass(frozen=True)
class Board:
    """Index tables of a board with n rows and N = n * n cells in reading order.

    A set of digits is an integer with bit d-1 for digit d. Tables of sets have 2^n entries.

    Attributes:
      box: the box size.
      n: box * box, the number of rows, columns, boxes and digits.
      units: int64 [3, n, n], the cells of every row, column and box.
      unit_of: int64 [3, N], the row, column and box of every cell.
      least: int64 [2^n], the least digit that is missing in a set; 0 if none is.
      greatest: int64 [2^n], the greatest digit that is missing in a set; 0 if none is.
      lacking: int64 [2^n], the number of digits that are missing in a set.
    """

    box: int
    n: int
    units: np.ndarray
    unit_of: np.ndarray
    least: np.ndarray
    greatest: np.ndarray
    lacking: np.ndarray


@lru_cache
def board(box: int) -> Board:
    """The tables of a board with this box size."""
    n = box * box
    cell = np.arange(n * n)
    row, column = cell // n, cell % n
    unit_of = np.stack([row, column, row // box * box + column // box])
    units = np.stack([np.argsort(u, kind="stable").reshape(n, n) for u in unit_of])
    absent = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 0
    digits = np.arange(1, n + 1)
    least = np.where(absent, digits, n + 1).min(1) % (n + 1)
    greatest = np.where(absent, digits, 0).max(1)
    return Board(box, n, units, unit_of, least, greatest, absent.sum(1))


def seen(b: Board, grid: np.ndarray, kinds: tuple[int, ...]) -> np.ndarray:
    """The set of digits in each cell's units of the given kinds, int64 [N]."""
    bits = (1 << grid) >> 1
    out = 0
    for kind in kinds:
        out = out | np.bitwise_or.reduce(bits[b.units[kind]], axis=1)[b.unit_of[kind]]
    return out


def repeated(b: Board, grid: np.ndarray, kinds: tuple[int, ...]) -> np.ndarray:
    """Whether a cell's digit occurs again in one of its units of the given kinds, bool [N]."""
    out = np.zeros(b.n * b.n, bool)
    for kind in kinds:
        values = grid[b.units[kind]]
        again = (values[:, :, None] == values[:, None, :]).sum(2) > 1
        out[b.units[kind]] |= again & (values > 0)
    return out


def looks_like_sudoku(b: Board, grid: np.ndarray) -> bool:
    """Whether a grid has enough digits for a puzzle with one solution, and repeats none of them.

    This is true for every such puzzle and for every solved grid.
    """
    if np.count_nonzero(grid) < FEWEST_CLUES[b.box]:
        return False
    bits = (1 << grid) >> 1
    for kind in (ROW, COLUMN, BOX):
        inside = bits[b.units[kind]]
        if (inside.sum(1) != np.bitwise_or.reduce(inside, axis=1)).any():
            return False
    return True
