"""Puzzles for the tests of Sudoku, and the 4x4 symmetries found in a slow, plain way."""

import itertools

import numpy as np

from data.sudoku.engine import generate

CLASSIC = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
NAMES = np.array([[0, *order] for order in itertools.permutations(range(1, 5))])


def grid(text):
    """The grid int8 [n*n] of a text of digits, with 0 or a dot for an empty cell."""
    return np.array([int(c) for c in text.replace(".", "0")], np.int8)


def draw(box, count, low, high, seed=0):
    """(puzzles, solutions), int8 [count, n*n] each, with low..high clues."""
    rng = np.random.default_rng(seed)
    pairs = [generate(rng, box, rng.integers(low, high + 1)) for _ in range(count)]
    puzzles, solutions = zip(*pairs, strict=True)
    return np.array(puzzles), np.array(solutions)


def moves_4x4():
    """The 128 rearrangements of 4x4 cells, int [128, 16], grown from four generators."""
    start = np.arange(16).reshape(4, 4)
    generators = [
        lambda g: g[[1, 0, 2, 3]],
        lambda g: g[[0, 1, 3, 2]],
        lambda g: g[[2, 3, 0, 1]],
        lambda g: g.T,
    ]
    seen, todo = {tuple(start.ravel())}, [start]
    while todo:
        grid = todo.pop()
        for generator in generators:
            new = generator(grid)
            if tuple(new.ravel()) not in seen:
                seen.add(tuple(new.ravel()))
                todo.append(new)
    return np.array(sorted(seen))


def canonical(puzzle, moves):
    """The smallest of the 128 * 24 forms of a 4x4 puzzle, written as a number."""
    return int((NAMES[:, puzzle[moves]] @ 5 ** np.arange(16)).min())
