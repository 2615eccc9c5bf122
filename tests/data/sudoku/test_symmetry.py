"""Symmetries: all are drawn, none changes a puzzle's key, and other puzzles have other keys."""

import itertools

import numpy as np
import pytest

from data.sudoku.engine import SudokuError, count_solutions
from data.sudoku.grids import check, is_valid_solution
from data.sudoku.symmetry import cell_symmetries, is_heldout, random_symmetry, split_key, split_keys
from tests.data.sudoku.puzzles import canonical, draw, moves_4x4


@pytest.mark.parametrize(("box", "low", "high"), [(2, 4, 8), (3, 28, 50)])
def test_a_symmetry_gives_another_sudoku(box, low, high):
    rng = np.random.default_rng(1)
    changed = 0
    for puzzle, solution in zip(*draw(box, 20, low, high), strict=True):
        symmetry = random_symmetry(rng, box)
        new_puzzle, new_solution = symmetry(puzzle), symmetry(solution)
        assert new_puzzle.dtype == np.int8
        assert check(new_puzzle, new_solution, box)
        assert np.sum(new_puzzle > 0) == np.sum(puzzle > 0)
        assert count_solutions(new_puzzle, box) == 1
        assert np.array_equal(symmetry(np.stack([puzzle, solution]))[1], new_solution)
        changed += not np.array_equal(new_puzzle, puzzle)
    assert changed >= 19


@pytest.mark.parametrize(("box", "low", "high"), [(2, 4, 9), (3, 28, 50)])
def test_the_key_is_invariant(box, low, high):
    rng = np.random.default_rng(2)
    puzzles, solutions = draw(box, 40, low, high)
    keys = split_keys(puzzles, solutions, box)
    assert keys.dtype == np.uint64
    for puzzle, solution, key in zip(puzzles, solutions, keys, strict=True):
        assert split_key(puzzle, solution, box) == key
        for _ in range(15):
            symmetry = random_symmetry(rng, box)
            assert split_key(symmetry(puzzle), symmetry(solution), box) == key


def test_the_4x4_symmetries_are_all_there():
    moves = {tuple(move) for move in moves_4x4()}
    assert len(moves) == 128
    table = cell_symmetries(2)
    assert table.shape == (128, 16)
    assert {tuple(move) for move in table.tolist()} == moves
    rng = np.random.default_rng(3)
    drawn = [random_symmetry(rng, 2) for _ in range(2000)]
    assert {tuple(symmetry.cells.tolist()) for symmetry in drawn} == moves
    assert len({tuple(symmetry.digits.tolist()) for symmetry in drawn}) == 24


def test_4x4_keys_tell_exactly_the_inequivalent_puzzles_apart():
    moves = moves_4x4()
    puzzles, solutions = draw(2, 600, 4, 7)
    keys = split_keys(puzzles, solutions, 2)
    forms = [canonical(puzzle, moves) for puzzle in puzzles]
    pairs = set(zip(keys.tolist(), forms, strict=True))
    assert len(pairs) == len(set(keys.tolist())) == len(set(forms)) > 200
    # Known counts: 13 puzzles with 4 clues and 2 solved grids.
    assert len(np.unique(split_keys(*draw(2, 600, 4, 4), 2))) == 13
    assert len(np.unique(split_keys(*draw(2, 100, 16, 16), 2))) == 2


def test_9x9_keys_tell_grids_apart():
    puzzles, solutions = draw(3, 2000, 81, 81)
    keys = split_keys(puzzles, solutions, 3)
    assert len(np.unique(keys)) == 2000  # there are 5.5e9 classes, so no two are alike
    assert 0.09 < np.mean([is_heldout(key) for key in keys]) < 0.16


def test_a_changed_9x9_grid_changes_its_key():
    # Two digits that stand crosswise in two rows of a band can be exchanged in these four cells.
    _, solutions = draw(3, 60, 81, 81, seed=4)
    changed = []
    for solution in solutions:
        grid = solution.reshape(9, 9)
        for top, low, left, right in itertools.product((0, 3, 6), (1, 2), range(9), range(9)):
            rows, cols = [top, top + low], [right, left]
            cells = np.ix_(rows, cols)
            if left < right and np.array_equal(grid[cells], grid[cells][::-1, ::-1]):
                new = grid.copy()
                new[cells] = grid[cells][::-1]
                assert is_valid_solution(new.ravel(), 3)
                changed.append(
                    split_key(new.ravel(), new.ravel(), 3)
                    != split_key(grid.ravel(), grid.ravel(), 3)
                )
    assert len(changed) > 60 and all(changed)


def test_keys_stay_the_same_for_ever():
    solved = np.array([(3 * row + row // 3 + col) % 9 + 1 for row in range(9) for col in range(9)])
    assert split_key(solved, solved, 3) == 701104540806738797
    puzzle = np.array([1, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 0, 4, 0])
    assert split_key(puzzle, puzzle, 2) == 9329681949887050420
    assert is_heldout(16) and not is_heldout(17) and is_heldout(np.uint64(2**64 - 8))


def test_errors():
    grid = np.zeros(81, np.int8)
    with pytest.raises(SudokuError, match="empty cell"):
        split_key(grid, grid, 3)
    with pytest.raises(SudokuError, match="81 cells"):
        split_key(grid[:16], grid[:16], 3)
    with pytest.raises(SudokuError, match="box size 4"):
        split_key(grid, grid, 4)
