"""The engine against plain searches over sets of candidates."""

import itertools

import numpy as np
import pytest

from data.sudoku import engine
from data.sudoku.engine import (
    SudokuError,
    count_many,
    count_solutions,
    difficulty,
    generate,
    generate_kaggle,
    solve,
)
from data.sudoku.grids import check, digits
from data.sudoku.symmetry import split_keys
from tests.data.sudoku.puzzles import CLASSIC, SOLVED, grid


def units(box):
    n = box * box
    rows = np.arange(n * n).reshape(n, n)
    boxes = rows.reshape(box, box, box, box).swapaxes(1, 2).reshape(n, n)
    return [set(unit.tolist()) for unit in (*rows, *rows.T, *boxes)]


UNITS = {box: units(box) for box in (2, 3)}
PEERS = {
    box: [set().union(*(u for u in units if c in u)) - {c} for c in range(box**4)]
    for box, units in UNITS.items()
}


def candidates(grid, box):
    digits = set(range(1, box * box + 1))
    return {c: digits - {grid[p] for p in PEERS[box][c]} for c in range(box**4) if not grid[c]}


def brute(puzzle, box):
    """Yields all solutions, by plain recursion over sets of candidates."""
    free = candidates(puzzle, box)
    if not free:
        yield list(puzzle)
        return
    cell = min(free, key=lambda c: len(free[c]))
    for digit in free[cell]:
        yield from brute([*puzzle[:cell], digit, *puzzle[cell + 1 :]], box)


def contradicts(puzzle, box):
    return any(puzzle[c] and puzzle[c] == puzzle[p] for c in range(box**4) for p in PEERS[box][c])


def rate(puzzle, box):
    """The level of difficulty(), found with sets."""
    grid = list(puzzle)
    level = 0
    while not all(grid):
        options = candidates(grid, box)
        sure = {c: d for c, d in options.items() if len(d) == 1}
        if not sure:
            level = 1
            for unit in UNITS[box]:
                for c in unit & options.keys():
                    others = (options[o] for o in unit & options.keys() - {c})
                    alone = options[c].difference(*others)
                    if alone:
                        sure[c] = alone
        if not sure:
            return 2
        cell, found = sure.popitem()
        grid[cell] = found.pop()
    return level


def test_solving_the_classic():
    puzzle, solution = grid(CLASSIC), grid(SOLVED)
    assert np.array_equal(solve(puzzle, 3), solution) and solve(puzzle, 3).dtype == np.int8
    assert np.array_equal(puzzle, grid(CLASSIC))
    assert count_solutions(puzzle, 3) == count_solutions(solution, 3) == 1
    wrong = puzzle.copy()
    wrong[2] = 1  # no clue contradicts it
    assert count_solutions(wrong, 3) == 0 and solve(wrong, 3) is None
    wrong[2] = 5  # a second 5 in the row
    assert count_solutions(wrong, 3) == 0 and solve(wrong, 3) is None


def test_counting_agrees_with_brute_force():
    assert count_solutions(np.zeros(16, int), 2, limit=1000) == 288
    assert count_solutions(np.zeros(81, int), 3, limit=5) == 5
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(150):
        puzzle = generate(rng, 2, 16)[1] * (rng.random(16) < rng.uniform(0.1, 0.5))
        if rng.random() < 0.3:
            puzzle[rng.integers(16)] = rng.integers(1, 5)
        solutions = [] if contradicts(puzzle, 2) else list(brute(puzzle.tolist(), 2))
        assert count_solutions(puzzle, 2, limit=300) == len(solutions)
        assert count_solutions(puzzle, 2) == min(2, len(solutions))
        found = solve(puzzle, 2)
        assert found is None if not solutions else found.tolist() in solutions
        seen.add(min(len(solutions), 3))
    assert seen == {0, 1, 2, 3}
    puzzles = np.array([generate(rng, 3, 30)[0] for _ in range(6)])
    puzzles[::2] *= rng.random((3, 81)) < 0.9
    expected = [len(list(itertools.islice(brute(p.tolist(), 3), 2))) for p in puzzles]
    assert count_many(puzzles, 3).tolist() == expected and set(expected) == {1, 2}


@pytest.mark.parametrize(
    ("box", "clues", "count"),
    [(2, 4, 20), (2, 7, 20), (2, 16, 3), (3, 24, 2), (3, 28, 6), (3, 45, 6), (3, 80, 2)],
)
def test_generated_puzzles(box, clues, count):
    rng = np.random.default_rng(clues)
    for _ in range(count):
        puzzle, solution = generate(rng, box, clues)
        assert puzzle.dtype == solution.dtype == np.int8
        assert np.sum(puzzle > 0) == clues
        assert list(itertools.islice(brute(puzzle.tolist(), box), 2)) == [solution.tolist()]
        assert not contradicts(solution, box) and check(puzzle, solution, box)


def test_generated_grids_are_random():
    rng = np.random.default_rng(0)
    grids, counts = np.unique(
        [generate(rng, 2, 16)[1] for _ in range(5760)], axis=0, return_counts=True
    )
    assert len(grids) == 288 and counts.min() >= 5 and counts.max() <= 45  # 20 of each are expected
    solutions = np.array([generate(rng, 3, 60)[1] for _ in range(100)])
    assert len(np.unique(split_keys(solutions, solutions, 3))) == 100
    first = [np.bincount(solutions[:, c], minlength=10)[1:].max() for c in range(81)]
    assert max(first) < 35  # 11 of 100 are expected


def test_generating_is_deterministic():
    a, b = (generate(np.random.default_rng(5), 3, 30) for _ in range(2))
    assert np.array_equal(a, b)
    rng = np.random.default_rng(5)
    first, second = generate(rng, 3, 30), generate(rng, 3, 30)
    assert np.array_equal(first, a) and not np.array_equal(second, a)
    puzzle = generate(np.random.default_rng(0), 2, 6)[0]
    assert np.array_equal(puzzle, grid("0200410000230010"))  # test sets must stay


def test_generating_errors(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(engine, "GENERATE_TRIES", 3)
    for box, clues, match in ((3, 17, "no puzzle with 17"), (3, 82, "0..81"), (4, 9, "box size 4")):
        with pytest.raises(SudokuError, match=match) as error:
            generate(rng, box, clues)
        assert "\n" not in str(error.value)
    for bad in (np.zeros(16), np.full(81, 10), np.full(81, -1), np.zeros((9, 9))):
        for function in (solve, count_solutions, difficulty):
            with pytest.raises(SudokuError):
                function(bad.astype(int), 3)


def test_puzzles_like_those_of_kaggle():
    rng = np.random.default_rng(5)
    for technique in (None, None, 0, 1, 2):
        puzzle, solution = generate_kaggle(rng, technique)
        assert puzzle.dtype == solution.dtype == np.int8 and check(puzzle, solution, 3)
        assert list(itertools.islice(brute(puzzle.tolist(), 3), 2)) == [solution.tolist()]
        assert technique in (None, difficulty(puzzle, 3))
        # The generator stops when a clue turns out to be needed.
        cleared = np.where(np.eye(81, dtype=bool), 0, puzzle)[puzzle > 0]
        assert (count_many(cleared, 3) == 2).any()
    first, again = (generate_kaggle(np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(first, again)
    pinned = "000952700002000090069007230240086350003705400000003080325000900090624500010039802"
    assert digits(first[0]) == pinned  # test sets must stay


def test_a_technique_that_no_puzzle_needs(monkeypatch):
    monkeypatch.setattr(engine, "GENERATE_TRIES", 3)
    with pytest.raises(SudokuError, match="none of 3 puzzles needs techniques of level 3"):
        generate_kaggle(np.random.default_rng(0), 3)


def test_difficulty():
    assert difficulty(grid(SOLVED), 3) == 0
    assert difficulty(grid(CLASSIC), 3) == 0
    hidden = "000000010400000000020000000000050407008000300001090000300400200050100000000806000"
    assert difficulty(grid(hidden), 3) == 1  # 17 clues
    inkala = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    assert difficulty(grid(inkala), 3) == 2
    assert difficulty(np.zeros(16, int), 2) == 2
    rng = np.random.default_rng(0)
    puzzles = [(2, generate(rng, 2, clues)[0]) for clues in (4, 5, 6) * 10]
    puzzles += [(3, generate(rng, 3, clues)[0]) for clues in (26, 30, 34, 38) * 5]
    levels = [(box, difficulty(puzzle, box)) for box, puzzle in puzzles]
    assert levels == [(box, rate(puzzle.tolist(), box)) for box, puzzle in puzzles]
    assert {(3, 0), (3, 1), (3, 2)} <= set(levels)
