"""Solves, generates and rates Sudoku puzzles of box size 2 (4x4) and 3 (9x9).

A grid is a flat int8 array [n*n] with n = box**2, row by row, with 0 for an empty cell. The public
functions also take other integers. They raise SudokuError for another shape and for values outside
0..n. The searches themselves are compiled by numba (data/sudoku/compiled.py).
"""

import functools

import numpy as np
from numpy.typing import ArrayLike

from data.sudoku.compiled import count_each, fill, fill_kaggle, rate

GENERATE_TRIES = 2000  # full grids to start from before a number of clues is given up


class SudokuError(ValueError):
    """A grid, file or setting that cannot be used. The message is one line and says what to do."""


@functools.cache
def unit_table(box: int) -> np.ndarray:
    """The row, column and box of each cell.

    Returns:
      int64 [n*n, 3]. Rows are numbered 0..n-1, columns n..2n-1, boxes 2n..3n-1.

    Raises:
      SudokuError: the box size is neither 2 nor 3.
    """
    if box not in (2, 3):
        raise SudokuError(f"box size {box!r} is not supported: use 2 (4x4) or 3 (9x9)")
    n = box * box
    row, col = np.divmod(np.arange(n * n), n)
    return np.stack([row, n + col, 2 * n + row // box * box + col // box], axis=1)


def as_grids(grids: ArrayLike, box: int, ndim: int = 1) -> np.ndarray:
    """Checks grids and copies them to the one type that the compiled functions take.

    Args:
      grids: integers 0..n, [n*n] for ndim 1 or [N, n*n] for ndim 2.
      box: the box size, 2 or 3.
      ndim: the number of axes that the grids must have, 1 or 2.

    Returns:
      A contiguous and writable int8 array of the same shape.

    Raises:
      SudokuError: another shape, another box size, or a value outside 0..n.
    """
    n = box * box
    cells = len(unit_table(box))
    grids = np.asarray(grids)
    if grids.ndim != ndim or grids.shape[-1] != cells:
        expected = f"[{cells}]" if ndim == 1 else f"[N, {cells}]"
        raise SudokuError(f"expected {cells} cells in shape {expected}, got shape {grids.shape}")
    if grids.size and (grids.min() < 0 or grids.max() > n):
        raise SudokuError(f"cells must lie in 0..{n}, got {grids.min()}..{grids.max()}")
    return np.array(grids, dtype=np.int8, order="C")


def solve_many(puzzles: ArrayLike, box: int, limit: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Solves puzzles, and counts the solutions of each of them up to a limit.

    Args:
      puzzles: integers 0..n, [N, n*n].
      box: the box size, 2 or 3.
      limit: the count at which the search for more solutions stops.

    Returns:
      (counts, solutions): int64 [N], at most `limit`, and int8 [N, n*n], any solution of each
      puzzle, with zeros for a puzzle that has none. A puzzle has none if two clues contradict each
      other.

    Raises:
      SudokuError: as in as_grids.
    """
    puzzles = as_grids(puzzles, box, ndim=2)
    found = np.zeros_like(puzzles)
    return count_each(puzzles, unit_table(box), int(limit), found), found


def count_many(puzzles: ArrayLike, box: int, limit: int = 2) -> np.ndarray:
    """The counts of solve_many."""
    return solve_many(puzzles, box, limit)[0]


def count_solutions(puzzle: ArrayLike, box: int, limit: int = 2) -> int:
    """count_many for one puzzle [n*n]."""
    return int(count_many(np.asarray(puzzle)[None], box, limit)[0])


def solve(puzzle: ArrayLike, box: int) -> np.ndarray | None:
    """Any solution of a puzzle [n*n], as int8 [n*n], or None if there is no solution."""
    counts, found = solve_many(np.asarray(puzzle)[None], box, 1)
    return found[0] if counts[0] else None


def generate(rng: np.random.Generator, box: int, clues: int) -> tuple[np.ndarray, np.ndarray]:
    """A random puzzle with exactly one solution and exactly `clues` clues.

    A grid is filled at random. Then its cells are cleared in random order, except those that would
    allow a second solution. If too many clues remain, a new grid is taken. This is fast for 9x9
    puzzles with 26 clues or more. With fewer than 23 clues most grids fail.

    Args:
      rng: one integer is drawn from it.
      box: the box size, 2 or 3.
      clues: the number of clues.

    Returns:
      (puzzle, solution), int8 [n*n] each.

    Raises:
      SudokuError: the number of clues is outside 0..n*n, or GENERATE_TRIES grids did not reach it.
    """
    units = unit_table(box)
    if not 0 <= clues <= len(units):
        raise SudokuError(f"clues must lie in 0..{len(units)}, got {clues}")
    puzzle, solution = np.empty((2, len(units)), np.int8)
    seed = int(rng.integers(2**63))
    if not fill(seed, int(clues), GENERATE_TRIES, units, puzzle, solution):
        raise SudokuError(
            f"no puzzle with {clues} clues found in {GENERATE_TRIES} grids: ask for more clues"
        )
    return puzzle, solution


def generate_kaggle(
    rng: np.random.Generator, technique: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A random 9x9 puzzle like those of Kaggle's `rohanrao/sudoku`, with exactly one solution.

    A grid is filled row by row at random. Then the clue of a random cell is taken away again and
    again. If a second solution becomes possible, the clue is put back, and it may be drawn once
    more. At the second such failure the puzzle is ready. This was found by trying what gives the
    published shares of clues and techniques of that file; docs/RESULTS.md (Generated puzzles)
    compares them.

    Args:
      rng: one integer is drawn from it.
      technique: the level of difficulty() that the puzzle must have; None for any level.

    Returns:
      (puzzle, solution), int8 [81] each.

    Raises:
      SudokuError: GENERATE_TRIES puzzles did not have the level.
    """
    puzzle, solution = np.empty((2, 81), np.int8)
    seed, level = int(rng.integers(2**63)), -1 if technique is None else technique
    if not fill_kaggle(seed, level, GENERATE_TRIES, unit_table(3), puzzle, solution):
        raise SudokuError(f"none of {GENERATE_TRIES} puzzles needs techniques of level {technique}")
    return puzzle, solution


def difficulty(puzzle: ArrayLike, box: int) -> int:
    """The techniques that a puzzle needs: 0 naked singles, 1 hidden singles too, 2 more than these.

    A naked single is a cell with one candidate. A hidden single is a digit with one possible cell
    in a row, column or box. The level has a meaning only for a puzzle with exactly one solution.
    """
    return int(rate(as_grids(puzzle, box), unit_table(box)))
