"""The Sudoku task: settings, sources, scores, bins, and what a report shows of a puzzle."""

import numpy as np
import pytest

from data.sudoku.engine import SudokuError, difficulty
from data.sudoku.grids import digits, prompt, render
from data.sudoku.puzzle_file import write_csv
from data.sudoku.sources import SudokuSource
from data.sudoku.symmetry import split_key
from data.tasks import sudoku
from data.tasks.sudoku import SudokuTask
from data.tasks.task import Replay, TaskError
from tests.data.sudoku.puzzles import CLASSIC, SOLVED, draw, grid

SOLUTION = grid("1234341221434321")
OTHER = grid("1234341243212143")  # valid too
PUZZLE = grid("1034041221034320")  # four empty cells
ITEM = {"puzzle": PUZZLE, "solution": SOLUTION}


def text(cells):
    """A 4x4 grid as an answer."""
    return "\n".join(" ".join(map(str, row)) for row in np.reshape(cells, (4, 4)))


def same(items, others):
    """Whether two lists have the same puzzles."""
    return len(items) == len(others) and all(
        np.array_equal(a[name], b[name])
        for a, b in zip(items, others, strict=True)
        for name in ("puzzle", "solution")
    )


def clues_of(items):
    return [int(np.count_nonzero(item["puzzle"])) for item in items]


@pytest.mark.parametrize(
    ("settings", "ranges"),
    [
        ({}, [(40, 50)]),
        ({"box": 2}, [(8, 10)]),
        ({"clues": "30-39"}, [(30, 39)]),
        ({"clues": "45"}, [(45, 45)]),
        ({"clues": "40-50, 30-39,25"}, [(40, 50), (30, 39), (25, 25)]),
        ({"box": 2, "clues": "4-16"}, [(4, 16)]),
        ({"clues": "kaggle"}, ["kaggle"]),
        ({"clues": "kaggle, 26-50,kaggle-hidden"}, ["kaggle", (26, 50), "kaggle-hidden"]),
    ],
)
def test_ranges_of_clues(settings, ranges):
    assert SudokuTask(**settings).ranges == ranges


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"box": 4}, "box 4: take 3 for 9x9 or 2 for 4x4"),
        ({"clues": "40-"}, "clues=40-: '40-' is not a range such as 30-39"),
        ({"clues": "many"}, "clues=many: 'many' is not a range"),
        ({"clues": "kaggle-easy"}, "not a range such as 30-39, and not one of kaggle, kaggle-nake"),
        ({"clues": "26-50,kaggle", "box": 2}, "clues 26..50: choose within 4..16"),
        ({"clues": "kaggle", "box": 2}, "clues kaggle: such puzzles are 9x9 only: set box to 3"),
        ({"clues": "40-50,"}, "clues=40-50,: '' is not a range"),
        ({"clues": "-40"}, "'-40' is not a range"),
        ({"clues": "30-40-50"}, "'30-40-50' is not a range"),
        ({"clues": "40-50,12"}, "clues 12..12: choose within 20..81"),
        ({"clues": "50-40"}, "clues 50..40: choose within"),
        ({"box": 2, "clues": "40-50"}, "clues 40..50: choose within 4..16$"),
    ],
)
def test_settings_that_cannot_be_used(settings, error):
    with pytest.raises(SudokuError, match=error) as caught:
        SudokuTask(**settings)
    assert "\n" not in str(caught.value)


def test_one_range_is_the_generated_source():
    splits = SudokuTask(box=2, clues="7-9").open(5, check=None)
    for split, source in zip(("train", "test"), splits, strict=True):
        plain = SudokuSource(5, 30, 2, (7, 9), split)
        assert same([source[i] for i in range(30)], [plain[i] for i in range(30)])
        assert len(source) == 2**30
    assert SudokuTask(box=2).open(5, None, test=False).test is None


def test_several_ranges_take_turns():
    train, test = SudokuTask(box=2, clues="10-12,7,4-5").open(2, check=None)
    ranges = [(10, 12), (7, 7), (4, 5)]
    for split, source in (("train", train), ("test", test)):
        plain = [SudokuSource(2, 30, 2, r, split)[i] for i, r in enumerate(ranges * 3)]
        items = [source[i] for i in range(9)]
        assert same(items, plain)
        assert all(
            low <= n <= high for n, (low, high) in zip(clues_of(items), ranges * 3, strict=True)
        )
        with pytest.raises(IndexError):
            source[-1]
        with pytest.raises(IndexError):
            source[len(source)]


def test_puzzles_like_kaggles_take_turns_with_a_range():
    names = ["kaggle", (26, 50)]
    task = SudokuTask(clues="kaggle,26-50")
    splits = task.open(4, check=None)
    for split, source in zip(("train", "test"), splits, strict=True):
        plain = [SudokuSource(4, 8, 3, name, split)[i] for i, name in enumerate(names * 4)]
        assert same([source[i] for i in range(8)], plain)
    held = task.held_out(4, [2, 3], None)
    kaggle, others = (SudokuSource(4, 5, 3, name, "test") for name in names)
    assert same(held, [kaggle[0], kaggle[1], others[2], others[3], others[4]])
    bins = task.bins(held)
    assert list(bins) == ["kind", "clues", "technique"]
    assert {kind: rows.tolist() for kind, rows in bins["kind"].items()} == {
        "like Kaggle's": [True] * 2 + [False] * 3,
        "26 to 50 clues": [False] * 2 + [True] * 3,
    }
    assert set(task.published) < set(bins["kind"])
    [item] = SudokuTask(box=2, clues="7").held_out(0, [1], None)
    assert item["kind"] == "7 clues"


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"box": 2, "clues": "5-6,7-8"}, 400),
        ({"clues": "40-50,55"}, 60),
        ({"clues": "kaggle,26-50"}, 60),
    ],
)
def test_train_and_test_share_no_puzzle_up_to_symmetry(settings, count):
    task = SudokuTask(**settings)
    keys = [
        {split_key(source[i]["puzzle"], source[i]["solution"], task.box) for i in range(count)}
        for source in task.open(1, check=None)
    ]
    assert not keys[0] & keys[1] and min(map(len, keys)) > 30
    items = task.held_out(1, [count // 2], None)
    held = {split_key(item["puzzle"], item["solution"], task.box) for item in items}
    assert held and not held & keys[0]


def test_held_out_puzzles_are_those_of_the_sources():
    one = SudokuTask(box=2, clues="7-9")
    source = SudokuSource(3, 8, 2, (7, 9), "test")
    assert same(one.held_out(3, [8], None), list(source))
    assert same(one.held_out(3, [8], None), [one.open(3, None).test[i] for i in range(8)])

    several = SudokuTask(box=2, clues="7-9,5-6,10")
    ranges = [(7, 9), (5, 6), (10, 10)]
    for counts, ends in (([4], (4, 8, 12)), ([2, 5, 1], (2, 7, 8))):
        starts = (0, *ends[:-1])
        expected = [
            SudokuSource(3, 20, 2, r, "test")[i]
            for r, start, end in zip(ranges, starts, ends, strict=True)
            for i in range(start, end)
        ]
        assert same(several.held_out(3, counts, None), expected)
    with pytest.raises(TaskError, match="2 numbers of puzzles for 3 ranges of clues"):
        several.held_out(3, [4, 4], None)
    with pytest.raises(TaskError, match="3 numbers of puzzles for 1 ranges of clues"):
        one.held_out(3, [1, 1, 1], None)


def test_puzzles_of_a_file(tmp_path, capsys, monkeypatch):
    puzzles, solutions = draw(3, 40, 35, 50, seed=5)
    path = tmp_path / "a.csv"
    write_csv(path, puzzles, solutions)
    every = [{"puzzle": p, "solution": s} for p, s in zip(puzzles, solutions, strict=True)]
    task, opened = SudokuTask(path=str(path)), []
    read = sudoku.read_puzzles
    monkeypatch.setattr(sudoku, "read_puzzles", lambda *args: opened.append(args) or read(*args))
    splits = task.open(0, check=None)
    assert same(list(splits.train), every[:36]) and same(list(splits.test), every[36:])
    # The file is opened once for both splits, and one line says what was understood.
    assert len(opened) == 1
    assert capsys.readouterr().err == (
        f"{path}: 40 puzzles, columns puzzle and solution, solutions given, "
        "each with one solution\n"
    )
    assert task.open(0, None, test=False).test is None
    assert same(task.held_out(9, [3], None), [splits.test[i] for i in range(3)])
    with pytest.raises(TaskError, match=f"only {len(splits.test)} puzzles are held out, not 40"):
        task.held_out(0, [40], None)
    assert len(opened) == 4
    assert same(SudokuTask().read(str(path), None, None), every)
    assert same(SudokuTask().read(str(path), 7, None), every[:7])
    with pytest.raises(SudokuError, match="the puzzles are 9x9: set box to 3"):
        SudokuTask(box=2).read(str(path), None, None)
    with pytest.raises(SudokuError, match=r"none\.csv: cannot be read"):
        SudokuTask(path=str(tmp_path / "none.csv")).open(0, None)


def test_a_file_without_solutions_and_with_twins(tmp_path, capsys):
    puzzles, solutions = draw(3, 10, 40, 50)
    path = tmp_path / "a.sdm"
    lines = [digits(puzzle).replace("0", ".") for puzzle in [*puzzles, puzzles[0]]]
    path.write_text("\n".join(lines))
    train, test = SudokuTask(path=str(path)).open(0, None)
    expected = [{"puzzle": p, "solution": s} for p, s in zip(puzzles, solutions, strict=True)]
    assert same([*train, *test], expected)
    story, twins = capsys.readouterr().err.splitlines()
    assert (
        "11 puzzles, one in each line, solutions found by the solver, each with one solution"
        in story
    )
    assert twins.startswith(f"{path}: the test leaves out 1 of its 2 puzzles: each of ")


def test_text():
    puzzle = np.zeros(16, np.int8)
    puzzle[:3] = 3, 0, 1
    solution = np.tile(np.arange(1, 5, dtype=np.int8), 4)
    user, answer = SudokuTask(box=2).text({"puzzle": puzzle, "solution": solution})
    assert user == "Solve the sudoku:\n3 0 1 0\n" + "\n".join(["0 0 0 0"] * 3)
    assert answer == "\n".join(["1 2 3 4"] * 4)


ONE_WRONG = [*SOLUTION[:-1], 2]  # in an empty cell of the puzzle


@pytest.mark.parametrize(
    ("answer", "exact", "other_format", "valid", "clues_kept", "parts"),
    [
        (text(SOLUTION), 1, 0, 1, 1, 1),
        (f" {text(SOLUTION)} \n", 1, 0, 1, 1, 1),
        (" ".join(map(str, SOLUTION)), 1, 0, 1, 1, 1),
        (digits(SOLUTION), 0, 1, 0, 0, 0),
        (f"Here it is:\n{text(SOLUTION)}", 0, 1, 0, 0, 0),
        (f"Here it is:\n{text(ONE_WRONG)}", 0, 0, 0, 0, 0),
        (f"{text(PUZZLE)}\nis solved by {text(OTHER)}", 0, 0, 0, 0, 0),
        (text(ONE_WRONG), 0, 0, 0, 1, 3 / 4),
        (text([2, *SOLUTION[1:]]), 0, 0, 0, 0, 1),  # a wrong clue
        (text(OTHER), 0, 0, 1, 0, 2 / 4),
        (text(PUZZLE), 0, 0, 0, 0, 0),  # with empty cells it is no grid
        (text(SOLUTION) + " 1", 0, 0, 0, 0, 0),
        ("I give up.", 0, 0, 0, 0, 0),
        ("", 0, 0, 0, 0, 0),
    ],
)
def test_scores(answer, exact, other_format, valid, clues_kept, parts):
    task = SudokuTask(box=2)
    expected = {"exact": exact, "other_format": other_format, "valid": valid}
    expected |= {"clues_kept": clues_kept, "parts": parts}
    found = task.score(ITEM, answer)
    assert found == expected and list(found) == list(task.measures)
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(
    ("box", "clues", "names", "inside"),
    [
        (
            3,
            (28, 30, 39, 40, 60),
            ["40 or more clues", "30-39 clues", "under 30 clues"],
            [[3, 4], [1, 2], [0]],
        ),
        (
            2,
            (5, 6, 7, 8, 12),
            ["8 or more clues", "6-7 clues", "under 6 clues"],
            [[3, 4], [1, 2], [0]],
        ),
    ],
)
def test_bins(box, clues, names, inside):
    task = SudokuTask(box=box)
    items = [SudokuSource(0, 1, box, (n, n), "test")[0] for n in clues]
    bins = task.bins(items)
    assert list(bins) == ["clues", "technique"]
    assert {name: np.flatnonzero(rows).tolist() for name, rows in bins["clues"].items()} == dict(
        zip(names, inside, strict=True)
    )
    assert list(bins["technique"]) == [
        "naked singles only",
        "hidden singles too",
        "more than singles",
    ]
    level = [difficulty(item["puzzle"], box) for item in items]
    found = np.stack(list(bins["technique"].values()))
    assert found.dtype == bool and found.sum(axis=0).tolist() == [1] * len(items)
    assert found.argmax(axis=0).tolist() == level


def test_techniques_of_known_puzzles():
    hidden = "000000010400000000020000000000050407008000300001090000300400200050100000000806000"
    hard = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    items = [{"puzzle": grid(t), "solution": grid(SOLVED)} for t in (hard, hidden, CLASSIC)]
    bins = SudokuTask().bins(items)["technique"]
    assert [np.flatnonzero(rows).tolist() for rows in bins.values()] == [[2], [1], [0]]


def test_what_a_table_of_answers_shows():
    task = SudokuTask(box=2)
    assert task.columns(ITEM) == {"puzzle": "1034041221034320", "solution": "1234341221434321"}
    assert next(iter(task.columns(ITEM))) == "puzzle"
    assert task.shown(text(OTHER)) == "1234341243212143"
    assert task.shown(f"The answer is {digits(OTHER)}.") == "1234341243212143"
    assert task.shown("1 2 3") == task.shown(text(PUZZLE)) == ""
    classic = {"puzzle": grid(CLASSIC), "solution": grid(SOLVED)}
    assert SudokuTask().columns(classic) == {"puzzle": CLASSIC, "solution": SOLVED}


def replay(pieces, expected):
    """Three steps of a canvas; the last two show `pieces`."""
    size = len(expected)
    return Replay(
        pieces=[["?"] * size, pieces, pieces],
        accepted=np.arange(size) < np.array([0, size // 2, size])[:, None],
        entropy=np.full((3, size), 0.5, np.float32),
        expected=expected,
        limit=48,
    )


def test_a_page_draws_a_grid():
    task = SudokuTask(box=2)
    expected = [t for row in SOLUTION.reshape(4, 4) for t in (*(f" {d}" for d in row), "\n")]
    view = task.view(ITEM, [*expected, "<turn|>"])
    lines = [[x, 0, x, 4] for x in (0, 2, 4)] + [[0, y, 4, y] for y in (0, 2, 4)]
    assert view == {
        "kind": "drawing",
        "name": "Grid",
        "size": [4, 4],
        "shape": "square",
        "cells": [i for i in range(20) if i % 5 < 4],
        "places": [[x, y] for y in range(4) for x in range(4)],
        "lines": lines,
        "clues": np.flatnonzero(PUZZLE).tolist(),
        "right": [str(digit) for digit in SOLUTION],
    }
    assert task.view(ITEM, ["12", *expected[2:]]) is None


def test_a_message_that_is_a_puzzle_is_drawn_as_a_grid():
    def pieces(text):
        return [piece for line in text.splitlines() for piece in (*line.split(" "), "\n")]

    asked = prompt(PUZZLE)
    view = SudokuTask().view_of_message(asked, pieces)  # of any size
    expected = pieces(render(SOLUTION))
    assert view == {n: v for n, v in SudokuTask(box=2).view(ITEM, expected).items() if n != "right"}
    assert SudokuTask().view_of_message(asked.replace(" ", "  ") + "\n", pieces) == view
    for other in ("", "Solve", "Solve the sudoku:", asked[:-1], asked + " 1", asked[:-1] + "x"):
        assert SudokuTask().view_of_message(other, pieces) is None
    assert SudokuTask().view_of_message(asked, list) is not None  # one token a character
    assert SudokuTask().view_of_message(asked, lambda text: [text]) is None


def test_a_picture_has_the_digits_at_their_tokens(monkeypatch):
    task = SudokuTask(box=2)
    # Line ends stand among the digits, and the turn's end behind them.
    expected = [t for row in SOLUTION.reshape(4, 4) for t in (*(f" {d}" for d in row), "\n")]
    expected = [*expected, "<turn|>"]
    wrong = [*expected]
    wrong[0], wrong[6] = "cat", " 3"  # a word in the first cell, and a wrong digit in cell 5
    png = task.picture(ITEM, replay(wrong, expected))
    assert png.startswith(b"\x89PNG")
    assert png != task.picture(ITEM, replay(expected, expected))
    assert int.from_bytes(png[16:20]) > 300  # its width

    drawn = []
    monkeypatch.setattr(
        "data.sudoku.replay_strip.replay_strip", lambda *args: drawn.append(args) or b""
    )
    task.picture(ITEM, replay(wrong, expected))
    puzzle, solution, digits, accepted, entropy, limit, photo = drawn[0]
    assert puzzle is PUZZLE and solution is SOLUTION and limit == 48 and photo is None
    shown = SOLUTION.copy()
    shown[0], shown[5] = 0, 3
    assert digits.tolist() == [[0] * 16, shown.tolist(), shown.tolist()]
    cells = [i for i in range(20) if i % 5 < 4]
    assert accepted.tolist() == replay(wrong, expected).accepted[:, cells].tolist()
    assert entropy.shape == (3, 16)


def test_digits_that_share_a_token_cannot_be_drawn():
    expected = ["12", *(str(d) for d in SOLUTION[2:])]
    assert SudokuTask(box=2).picture(ITEM, replay(expected, expected)) is None
