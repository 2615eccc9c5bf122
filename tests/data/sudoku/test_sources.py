"""Sources of puzzles: items by index, splits that share no puzzle, and settings refused."""

import hashlib
import random

import numpy as np
import pytest

from data.sudoku.engine import SudokuError, difficulty
from data.sudoku.grids import check, digits, render
from data.sudoku.puzzle_file import Puzzles
from data.sudoku.sources import KAGGLE, SudokuSource, split_puzzles
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
        (3, "kagle", "train", "clues 'kagle': use one of kaggle, kaggle-naked, kaggle-hidden, "),
        (2, "kaggle", "train", "clues kaggle: such puzzles are 9x9 only: set box to 3, or give a"),
        (2, "kaggle-more", "test", "clues kaggle-more: such puzzles are 9x9 only"),
    ],
)
def test_source_errors(box, clues, split, match):
    with pytest.raises(SudokuError, match=match) as error:
        SudokuSource(0, 1, box, clues, split)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("box", "clues", "size", "digest"),
    [
        (3, (26, 50), 40, "948b7f13dac38a4d"),
        (3, (24, 30), 20, "b89b6154b522a7b4"),
        (3, (60, 81), 20, "87d3fa3e2e60f55b"),
        (2, (4, 10), 60, "78ed5eeb2d3e82c1"),
    ],
)
def test_the_puzzles_of_a_range_stay(box, clues, size, digest):
    items = [x for split in ("train", "test") for x in SudokuSource(3, size, box, clues, split)]
    text = "".join(digits(item["puzzle"]) + digits(item["solution"]) for item in items)
    assert hashlib.sha256(text.encode()).hexdigest().startswith(digest)


def test_the_shares_of_kaggles_puzzles():
    """Clues and techniques of Kaggle's rohanrao/sudoku (docs/MODEL.md, Sudoku)."""
    puzzles = np.array([item["puzzle"] for item in SudokuSource(0, 4000, 3, "kaggle")])
    clues = (puzzles > 0).sum(axis=1)
    assert abs(clues.mean() - 38.9) < 0.4  # four standard errors
    bins = np.histogram(clues, (0, 30, 35, 40, 45, 50, 55, 82))[0]
    techniques = np.bincount([difficulty(puzzle, 3) for puzzle in puzzles], minlength=3)
    published = np.array([2, 23.2, 34.1, 23.8, 11, 4.1, 1.8, 81.7, 16.4, 1.9]) / 100
    found = np.array([*bins, *techniques]) / len(puzzles)
    error = 4 * np.sqrt(published * (1 - published) / len(puzzles))
    assert (np.abs(found - published) < 0.01 + error).all(), found


@pytest.mark.parametrize("name", KAGGLE)
def test_puzzles_by_the_name_of_their_technique(name):
    splits = [SudokuSource(1, 12, 3, name, split) for split in ("train", "test")]
    items = [[source[i] for i in reversed(range(12))][::-1] for source in splits]
    for source, taken, heldout in zip(splits, items, (False, True), strict=True):
        for item, again in zip(taken, source, strict=True):
            assert all(np.array_equal(item[part], again[part]) for part in item)
            assert check(item["puzzle"], item["solution"], 3)
            assert is_heldout(split_key(item["puzzle"], item["solution"], 3)) == heldout
    levels = {difficulty(item["puzzle"], 3) for taken in items for item in taken}
    assert levels == {KAGGLE[name]} if KAGGLE[name] is not None else len(levels) > 1
    assert len({render(item["puzzle"]) for taken in items for item in taken}) == 24


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
