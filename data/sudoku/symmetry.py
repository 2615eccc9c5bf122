"""Sudoku's symmetries, and a train/test split that no symmetry crosses.

Relabelling the digits, permuting the rows of a band, the columns of a stack, the bands or the
stacks, and transposing turn a Sudoku into another that is the same problem. A puzzle is therefore
put into a split by a key that all of these leave alone:

* 9x9: a hash of invariants of the solved grid. All puzzles of one solution share their split.
* 4x4: a hash of the puzzle's canonical form. (There are only two solved grids up to symmetry.)

Equivalent puzzles always have equal keys, and hardly any others do: of 300,000 random 9x9 grids
12 shared a key with another, where some 8 are expected to be truly equivalent.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from numba import njit

from data.sudoku.engine import SudokuError, as_grids, unit_table

HELDOUT_ONE_IN = 8


@dataclass(frozen=True)
class Symmetry:
    """One symmetry; calling it maps grids [..., n*n] of integers 0..n to grids of the same shape.

    Attributes:
      cells: int [n*n], the cell each new cell is taken from.
      digits: int8 [n+1], the new name of each digit, with digits[0] = 0.
    """

    cells: np.ndarray
    digits: np.ndarray

    def __call__(self, grids):
        return self.digits[np.asarray(grids)[..., self.cells]]


def random_symmetry(rng, box):
    """A Symmetry drawn uniformly with the np.random.Generator rng."""
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
def cell_symmetries(box):
    """Every rearrangement of the cells by a symmetry, int64 [G, n*n]; G = 128 for box size 2."""
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
def _mix(x):
    """The finalizer of splitmix64 on a uint64: a fixed hash, the same in every process."""
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def _canonical_keys(puzzles, moves):
    """Hashes the smallest form of each puzzle over all moves, digits named as they first occur."""
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
def _invariant_keys(solutions):
    """Hashes invariants of solved 9x9 grids.

    Two rows a, b define the permutation of the digits that sends row a to row b. Relabelling
    conjugates it, column permutations leave it, swapping a and b inverts it: its cycle type stays.
    The same holds for two columns, and for two digits with "the column of digit a in row r" as
    entry r of line a. Sums of hashes make every collection below a multiset: the cycles of a pair;
    the pairs of a line, apart by whether both lie in one band; the lines of a band; the bands; rows
    and columns, which transposition swaps.
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


def split_keys(puzzles, solutions, box):
    """The split keys of puzzles.

    Args:
      puzzles, solutions: integers 0..n, [N, n*n]; the solutions must be valid grids (box size 3
          reads only them, box size 2 only the puzzles).

    Returns:
      uint64 [N], equal for puzzles that a symmetry turns into each other.

    Raises:
      SudokuError: another shape, a value outside 0..n, or an empty cell in a 9x9 solution.
    """
    if box == 2:
        return _canonical_keys(as_grids(puzzles, box, ndim=2), cell_symmetries(box))
    solutions = as_grids(solutions, box, ndim=2)
    if not solutions.all():
        raise SudokuError("the key of a 9x9 puzzle needs its full solution, got an empty cell")
    return _invariant_keys(solutions)


def split_key(puzzle, solution, box):
    """split_keys for one puzzle [n*n] with its solution [n*n]; returns an int."""
    return int(split_keys(np.asarray(puzzle)[None], np.asarray(solution)[None], box)[0])


def is_heldout(key):
    """Whether puzzles with this split key belong to the test split; an eighth of all keys do."""
    return int(key) % HELDOUT_ONE_IN == 0
