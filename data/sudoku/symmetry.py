"""The symmetries of Sudoku, and a split into train and test that no symmetry crosses.

A Sudoku stays the same problem when its digits are renamed, when the rows of a band, the columns of
a stack, the bands or the stacks are permuted, and when it is transposed. The split of a puzzle
therefore depends on a key that all of these leave unchanged:

* 9x9: a hash of invariants of the solved grid. All puzzles with one solution share their split.
* 4x4: a hash of the puzzle's canonical form, because there are only two solved grids up to
  symmetry.

Equivalent puzzles always have equal keys, and other puzzles hardly ever do: among 300,000 random
9x9 grids, 12 shared a key with another grid, and about 8 are expected to be truly equivalent.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from data.sudoku.engine import SudokuError, as_grids, unit_table

HELDOUT_ONE_IN = 8  # one key in so many belongs to the test split


@dataclass(frozen=True)
class Symmetry:
    """A symmetry. A call maps grids [..., n*n] of integers 0..n to int8 grids of the same shape.

    Attributes:
      cells: int64 [n*n], the cell from which each new cell is taken.
      digits: int8 [n+1], the new name of each digit, with digits[0] = 0.
    """

    cells: np.ndarray
    digits: np.ndarray

    def __call__(self, grids: ArrayLike) -> np.ndarray:
        return self.digits[np.asarray(grids)[..., self.cells]]


def random_symmetry(rng: np.random.Generator, box: int) -> Symmetry:
    """Draws a symmetry uniformly from all of them."""
    n = len(unit_table(box)) // (box * box)
    rows, cols = (
        np.concatenate([band * box + rng.permutation(box) for band in rng.permutation(box)])
        for _ in range(2)
    )
    cells = rows[:, None] * n + cols
    cells = cells.T if rng.integers(2) else cells
    digits = np.concatenate([[0], 1 + rng.permutation(n)]).astype(np.int8)
    return Symmetry(cells.ravel(), digits)


@functools.cache
def cell_symmetries(box: int) -> np.ndarray:
    """All rearrangements of cells by symmetries, int64 [G, n*n], with G = 128 for box size 2."""
    inside = list(itertools.permutations(range(box)))
    lines = [
        [band * box + i for band, order in zip(bands, orders, strict=True) for i in order]
        for bands in inside
        for orders in itertools.product(inside, repeat=box)
    ]
    lines = np.array(lines)
    cells = lines[:, None, :, None] * box * box + lines[None, :, None, :]
    cells = cells.reshape(-1, box * box, box * box)
    return np.concatenate([cells, cells.transpose(0, 2, 1)]).reshape(-1, box**4)


@njit(cache=True)
def _mix(x: np.uint64) -> np.uint64:
    """The last stage of splitmix64: a fixed hash that is the same in every process."""
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def _canonical_keys(puzzles: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Hashes the canonical form of each puzzle.

    For each rearrangement of the cells, the digits are renamed in the order in which they first
    occur. The smallest of these forms is the canonical one.

    Args:
      puzzles: int8 [N, n*n].
      moves: int64 [G, n*n], the rearrangements.

    Returns:
      uint64 [N].
    """
    cells = puzzles.shape[1]
    keys = np.empty(len(puzzles), np.uint64)
    least = np.empty(cells, np.int64)
    names = np.empty(cells + 1, np.int64)
    for p in range(len(puzzles)):
        least[:] = cells
        for move in moves:
            names[:] = 0
            fresh = 0
            smaller = False
            for i in range(cells):
                digit = puzzles[p, move[i]]
                if digit and names[digit] == 0:
                    fresh += 1
                    names[digit] = fresh
                name = names[digit]
                if not smaller:
                    if name > least[i]:
                        break
                    smaller = name < least[i]
                least[i] = name
        key = np.uint64(0)
        for i in range(cells):
            key = _mix(key ^ np.uint64(least[i]))
        keys[p] = key
    return keys


@njit(cache=True)
def _invariant_keys(solutions: np.ndarray) -> np.ndarray:
    """Hashes invariants of solved 9x9 grids.

    Two rows a and b define the permutation of the digits that sends row a to row b. Renaming the
    digits conjugates this permutation, permuting the columns leaves it unchanged, and swapping a
    and b inverts it. Its cycle type therefore never changes. The same holds for two columns. It
    also holds for two digits, if entry r of the line of digit a is the column of a in row r.

    Hashes are added where the order must not count: over the cycles of a pair of lines; over the
    pairs of a line, with another hash for pairs in one band; over the lines of a band; over the
    bands; and over rows and columns, because transposing swaps them.

    Args:
      solutions: int8 [N, 81].

    Returns:
      uint64 [N].
    """
    keys = np.empty(len(solutions), np.uint64)
    lines = np.empty((3, 9, 9), np.int64)
    step = np.zeros(9, np.int64)
    hashes = np.empty(9, np.uint64)
    cycle_hashes = np.empty(10, np.uint64)
    for length in range(10):
        cycle_hashes[length] = _mix(np.uint64(length))
    for p in range(len(solutions)):
        for row in range(9):
            for col in range(9):
                digit = solutions[p, row * 9 + col] - 1
                lines[0, row, col] = digit
                lines[1, col, row] = digit
                lines[2, digit, row] = col
        total = np.uint64(0)
        for view in range(3):
            hashes[:] = np.uint64(0)
            for a in range(9):
                for b in range(a):
                    for i in range(9):
                        step[lines[view, a, i]] = lines[view, b, i]
                    pair = np.uint64(0)
                    seen = 0
                    for start in range(9):
                        length = 0
                        at = start
                        while not seen >> at & 1:
                            seen |= 1 << at
                            at = step[at]
                            length += 1
                        pair += cycle_hashes[length]
                    pair = _mix(pair ^ np.uint64(view < 2 and a // 3 == b // 3))
                    hashes[a] += pair
                    hashes[b] += pair
            side = np.uint64(0)
            for band in range(3):
                inside = np.uint64(0)
                for line in range(3):
                    h = _mix(hashes[band * 3 + line])
                    if view < 2:
                        inside += h
                    else:
                        side += h
                side += _mix(inside)
            total += _mix(side ^ np.uint64(view // 2))
        keys[p] = _mix(total)
    return keys


def split_keys(puzzles: ArrayLike, solutions: ArrayLike, box: int) -> np.ndarray:
    """The split keys of puzzles.

    Args:
      puzzles: integers 0..n, [N, n*n]. They are read for box size 2 only.
      solutions: integers 1..n, [N, n*n], valid grids. They are read for box size 3 only.
      box: the box size, 2 or 3.

    Returns:
      uint64 [N], equal for puzzles that a symmetry turns into each other.

    Raises:
      SudokuError: another shape, a value outside 0..n, or an empty cell in a 9x9 solution.
    """
    if box == 2:
        return _canonical_keys(as_grids(puzzles, box, ndim=2), cell_symmetries(box))
    solutions = as_grids(solutions, box, ndim=2)
    if not solutions.all():
        raise SudokuError("the key of a 9x9 puzzle needs its full solution, but got an empty cell")
    return _invariant_keys(solutions)


def split_key(puzzle: ArrayLike, solution: ArrayLike, box: int) -> int:
    """split_keys for one puzzle [n*n] with its solution [n*n]."""
    return int(split_keys(np.asarray(puzzle)[None], np.asarray(solution)[None], box)[0])


def is_heldout(key: int | np.integer) -> bool:
    """Whether puzzles with this split key belong to the test split."""
    return int(key) % HELDOUT_ONE_IN == 0
