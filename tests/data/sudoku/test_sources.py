"""Sources of puzzles: items by index, splits that share no puzzle, and settings refused."""

import random

import numpy as np
import pytest

from data.sudoku.engine import SudokuError
from data.sudoku.grids import check, render
from data.sudoku.puzzle_file import Puzzles
from data.sudoku.sources import SudokuSource, split_puzzles
from data.sudoku.symmetry import is_heldout, random_symmetry, split_key
from tests.data.sudoku.puzzles import canonical, draw, moves_4x4


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
        (3, (19, 30), "train", "19..30.* 20..81; puzzles with under 23 take long to generate"),
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


def test_the_splits_of_a_file():
    rng = np.random.default_rng(5)
    puzzles, solutions = draw(3, 40, 40, 50, seed=5)
    for row, origin in ((37, 2), (39, 35)):  # both become equivalent to a train puzzle
        symmetry = random_symmetry(rng, 3)
        puzzles[row], solutions[row] = symmetry(puzzles[origin]), symmetry(solutions[origin])
    found = Puzzles(puzzles, solutions, np.ones(40, int), 3, "")
    train, test, removed = split_puzzles(found, "a.csv")
    assert (len(train), len(test), removed) == (36, 2, 2)
    assert np.array_equal(train.puzzles, puzzles[:36])
    assert np.array_equal(test[1]["puzzle"], puzzles[38])
    assert np.array_equal(test[1]["solution"], solutions[38])
    assert len(split_puzzles(found, "a.csv", train_fraction=0.5).test) == 19
    assert repr(test) == "FileSource('a.csv, split test', 2)"
    for i in (-1, 2):
        with pytest.raises(IndexError):
            test[i]
    with pytest.raises(SudokuError, match=r"a\.csv: split test has no puzzle"):
        split_puzzles(found, "a.csv", train_fraction=1.0)
    assert split_puzzles(found, "a.csv", test=False, train_fraction=1.0)[1:] == (None, 0)
    with pytest.raises(SudokuError, match="split train has no puzzle"):
        split_puzzles(found, "a.csv", test=False, train_fraction=0.01)
