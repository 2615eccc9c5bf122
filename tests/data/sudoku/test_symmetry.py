import itertools
import random

import numpy as np
import pytest

from data.sudoku.engine import SudokuError, count_solutions, generate
from data.sudoku.grids import CsvSource, SudokuSource, check, is_valid_solution, render, write_csv
from data.sudoku.symmetry import cell_symmetries, is_heldout, random_symmetry, split_key, split_keys


def moves_4x4():
    """The 128 rearrangements of 4x4 cells, grown from five generators; int [128, 16]."""
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


NAMES = np.array([[0, *order] for order in itertools.permutations(range(1, 5))])


def canonical(puzzle, moves):
    """The smallest of the 128 * 24 forms of a 4x4 puzzle, written as a number."""
    return int((NAMES[:, puzzle[moves]] @ 5 ** np.arange(16)).min())


def draw(box, count, low, high, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [generate(rng, box, rng.integers(low, high + 1)) for _ in range(count)]
    puzzles, solutions = zip(*pairs, strict=True)
    return np.array(puzzles), np.array(solutions)


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
    assert len(np.unique(keys)) == 2000  # 5.5e9 classes: two alike are not to be expected
    assert 0.09 < np.mean([is_heldout(key) for key in keys]) < 0.16


def test_generated_grids_are_random():
    rng = np.random.default_rng(0)
    grids, counts = np.unique(
        [generate(rng, 2, 16)[1] for _ in range(5760)], axis=0, return_counts=True
    )
    assert len(grids) == 288 and counts.min() >= 5 and counts.max() <= 45  # 20 each
    solutions = np.array([generate(rng, 3, 60)[1] for _ in range(100)])
    assert len(np.unique(split_keys(solutions, solutions, 3))) == 100
    first = [np.bincount(solutions[:, c], minlength=10)[1:].max() for c in range(81)]
    assert max(first) < 35  # 11 of 100 expected


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


def test_4x4_splits_share_no_puzzle():
    moves = moves_4x4()
    keys, forms = {}, {}
    for split in ("train", "test"):
        source = SudokuSource(0, 400, 2, (5, 8), split)
        items = [source[i] for i in range(len(source))]
        keys[split] = {split_key(item["puzzle"], item["solution"], 2) for item in items}
        forms[split] = {canonical(item["puzzle"], moves) for item in items}
    assert not keys["train"] & keys["test"]
    assert not forms["train"] & forms["test"]
    assert len(forms["train"]) > 150 and len(forms["test"]) > 60


def test_9x9_splits_share_no_grid():
    keys = {}
    for split in ("train", "test"):
        source = SudokuSource(0, 150, 3, (40, 50), split)
        items = [source[i] for i in range(len(source))]
        keys[split] = {split_key(item["puzzle"], item["solution"], 3) for item in items}
        assert len(keys[split]) == 150
        assert {is_heldout(key) for key in keys[split]} == {split == "test"}
    assert not keys["train"] & keys["test"]


def test_errors():
    grid = np.zeros(81, np.int8)
    with pytest.raises(SudokuError, match="empty cell"):
        split_key(grid, grid, 3)
    with pytest.raises(SudokuError, match="81 cells"):
        split_key(grid[:16], grid[:16], 3)
    with pytest.raises(SudokuError, match="box size 4"):
        split_key(grid, grid, 4)


def test_source():
    source = SudokuSource(7, 40, 3, (40, 44))
    items = {i: source[i] for i in random.Random(0).sample(range(40), 40)}
    again = SudokuSource(7, 50, 3, (40, 44))
    counts = set()
    for i, item in items.items():
        assert item.keys() == {"puzzle", "solution"}
        assert all(np.array_equal(item[name], again[i][name]) for name in item)
        assert check(item["puzzle"], item["solution"], 3)
        counts.add(int(np.sum(item["puzzle"] > 0)))
    assert counts == {40, 41, 42, 43, 44}
    for other in (SudokuSource(8, 40, 3, (40, 44)), SudokuSource(7, 40, 3, (40, 44), "test")):
        assert not np.array_equal(other[0]["puzzle"], source[0]["puzzle"])
    assert len({render(item["puzzle"]) for item in items.values()}) == 40
    pinned = [0, 1, 4, 0, 4, 2, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0]  # test sets must stay
    assert SudokuSource(0, 1, 2, (6, 6), "test")[0]["puzzle"].tolist() == pinned
    assert len(source) == 40 and len(list(source)) == 40 and repr(source) == repr(source)
    for i in (-1, 40):
        with pytest.raises(IndexError):
            source[i]


@pytest.mark.parametrize(
    ("box", "clues", "split", "match"),
    [
        (3, (19, 30), "train", "19..30.* 20..81; generating under 23 is impractical"),
        (3, (30, 82), "train", "20..81"),
        (3, (40, 30), "train", "40..30"),
        (2, (3, 8), "train", "4..16$"),
        (2, (4, 17), "train", "4..16$"),
        (4, (40, 50), "train", "box size 4"),
        (2, (6, 8), "eval", "split 'eval'.* train, test"),
    ],
)
def test_source_errors(box, clues, split, match):
    with pytest.raises(SudokuError, match=match) as error:
        SudokuSource(0, 1, box, clues, split)
    assert "\n" not in str(error.value)


def test_csv_source(tmp_path):
    rng = np.random.default_rng(5)
    puzzles, solutions = draw(3, 40, 40, 50, seed=5)
    for row, origin in ((37, 2), (39, 35)):  # a look-alike of a train puzzle and of the row itself
        symmetry = random_symmetry(rng, 3)
        puzzles[row], solutions[row] = symmetry(puzzles[origin]), symmetry(solutions[origin])
    path = tmp_path / "a.csv"
    write_csv(path, puzzles, solutions)
    train, test = CsvSource(path, "train"), CsvSource(path, "test")
    assert (len(train), train.removed, len(test), test.removed) == (36, 0, 2, 2)
    assert np.array_equal(train.puzzles, puzzles[:36])
    assert np.array_equal(test[1]["puzzle"], puzzles[38])
    assert np.array_equal(test[1]["solution"], solutions[38])
    assert len(CsvSource(path, "test", train_fraction=0.5)) == 19
    assert repr(test) == repr(CsvSource(path, "test")) != repr(train)
    for i in (-1, 2):
        with pytest.raises(IndexError):
            test[i]
    with pytest.raises(SudokuError, match="no puzzle left to test"):
        CsvSource(path, "test", train_fraction=1.0)
    with pytest.raises(SudokuError, match="split 'eval'"):
        CsvSource(path, "eval")
