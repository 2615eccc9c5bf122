"""Sudoku on the canvas: what is given, how many cells are wrong, and what answers score."""

import collections

import numpy as np
import pytest

from data.sudoku.engine import SudokuError
from data.sudoku.grids import render
from data.sudoku.puzzle_file import write_csv
from data.tasks.sudoku import SudokuTask
from data.tasks.sudoku_fill import SudokuFillTask, with_wrong
from data.text.parts import Part
from tests.data.sudoku.puzzles import grid

SOLUTION = grid("1234341221434321")
PUZZLE = grid("1034041221034320")  # four empty cells
WRONG = grid("1234341221434312")  # the last two cells are wrong
FILL = {"puzzle": PUZZLE, "solution": SOLUTION, "given": PUZZLE, "wrong": 0}
REPAIR = {**FILL, "given": WRONG, "wrong": 2}


def test_clues_are_kept_and_wrong_cells_may_change():
    task = SudokuFillTask(box=2)
    assert task.text(FILL) == ("Sudoku", render(SOLUTION))
    parts = task.parts(FILL)
    assert parts[:3] == [Part("1", "kept"), Part(" 2", "open"), Part(" 3", "kept")]
    assert parts[3:6] == [Part(" 4", "kept"), Part("\n", "kept"), Part("3", "open")]
    assert sum(part.kind == "open" for part in parts) == 4
    repair = task.parts(REPAIR)
    assert repair[-2:] == [Part(" 2", "start", " 1"), Part(" 1", "start", " 2")]
    assert [part.text for part in repair if part.kind == "kept"] == ["\n"] * 3
    for found in (parts, repair):
        assert "".join(part.text for part in found) == render(SOLUTION)


def test_a_puzzle_may_stand_in_the_prompt_too():
    task = SudokuFillTask(box=2, in_prompt=True)
    assert task.text(FILL) == SudokuTask(box=2).text(FILL)
    assert task.text(REPAIR) == ("Sudoku", render(SOLUTION))
    assert task.parts(FILL) == SudokuFillTask(box=2).parts(FILL)


def test_numbers_of_wrong_cells_take_turns():
    task = SudokuFillTask(box=2, clues="7-8,9-10", wrong="0,1-3")
    train, test = task.open(5, None)
    counts = collections.Counter()
    for i in range(24):
        item = train[i]
        few = np.count_nonzero(item["puzzle"]) < 9
        counts[few, item["wrong"]] += 1
        if item["wrong"]:
            assert np.sum(item["given"] != item["solution"]) == item["wrong"]
        else:
            np.testing.assert_array_equal(item["given"], item["puzzle"])
    assert counts == {(few, k): 2 if k else 6 for few in (True, False) for k in range(4)}
    held_out = task.held_out(5, [8], None)
    assert [item["wrong"] for item in held_out[:8]] == [0, 1, 0, 2, 0, 3, 0, 1]
    assert any((a["given"] != b["given"]).any() for a, b in zip(held_out, test, strict=False))


def test_wrong_digits_are_equally_likely():
    rng, cells, changed = np.random.default_rng(0), np.zeros(16), np.zeros((5, 5))
    for _ in range(3000):
        shown = with_wrong(rng, SOLUTION, 3)
        wrong = shown != SOLUTION
        assert wrong.sum() == 3
        cells += wrong
        np.add.at(changed, (SOLUTION[wrong], shown[wrong]), 1)
    assert np.abs(cells - 9000 / 16).max() < 100
    assert not changed[0].any() and not changed[:, 0].any() and not changed.diagonal().any()
    assert np.abs(changed[1:, 1:][~np.eye(4, dtype=bool)] - 750).max() < 130


def test_puzzles_of_a_file(tmp_path):
    puzzles = [SudokuTask(box=2).open(0, None).train[i] for i in range(30)]
    path = tmp_path / "a.csv"
    write_csv(path, *(np.stack([p[name] for p in puzzles]) for name in ("puzzle", "solution")))
    task = SudokuFillTask(box=2, path=str(path), wrong="1-2")
    items = task.read(str(path), 4, None)
    assert [item["wrong"] for item in items] == [1, 2, 1, 2]
    splits = task.open(0, None)
    assert splits.train[3]["wrong"] == 2 and task.held_out(0, [1], None)[0]["wrong"] == 1


@pytest.mark.parametrize(
    ("item", "answer", "expected"),
    [
        (FILL, render(SOLUTION), (1, 1, 1, 1, 0)),
        (FILL, render(grid("1234341221434312")), (0, 0, 3 / 4, 1, 1 / 12)),  # a clue was changed
        (FILL, "1 2 3", (0, 0, 0, 0, 1)),
        (REPAIR, render(SOLUTION), (1, 1, 1, 1, 0)),
        (REPAIR, render(WRONG), (0, 0, 0, 0, 0)),  # copied
        (REPAIR, render(grid("1234341221434321")), (1, 1, 1, 1, 0)),
        (REPAIR, render(grid("1234341221434332")), (0, 0, 0, 1 / 2, 0)),  # found and not mended
        (REPAIR, render(grid("2134341221434322")), (0, 0, 1 / 2, 1 / 2, 2 / 14)),
        (REPAIR, render(SOLUTION % 4 + 1), (0, 1, 0, 1 / 2, 1)),  # another valid grid
    ],
)
def test_scores(item, answer, expected):
    task = SudokuFillTask(box=2)
    found = task.score(item, answer)
    assert found == pytest.approx(dict(zip(task.measures, expected, strict=True)))


def test_bins_of_repair_are_numbers_of_wrong_cells():
    task = SudokuFillTask(box=2, wrong="0,2")
    assert set(task.bins([FILL])) == {"clues", "technique"}
    found = task.bins([FILL, REPAIR, REPAIR])["wrong cells"]
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "to fill in": [True, False, False],
        "2 wrong": [False, True, True],
    }
    assert list(task.columns(REPAIR).values()) == ["1234341221434312", "1234341221434321"]


@pytest.mark.parametrize("wrong", ["", "x", "1-2-3", "0-3", "3-1", "82", "1,,2", "-1"])
def test_numbers_that_cannot_be_used(wrong):
    with pytest.raises(SudokuError, match="wrong="):
        SudokuFillTask(wrong=wrong)
