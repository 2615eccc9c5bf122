"""Grids in pictures: what is asked, how it is scored, and what is held out."""

import dataclasses

import numpy as np
import pytest

from data.images.sources import PictureReader
from data.photos.fonts import FONTS
from data.tasks.read_grid import ReadGridTask
from data.tasks.registry import make_task
from data.tasks.task import Replay, TaskError
from data.text.contents import sources
from data.text.digit_grid import digit_places
from data.text.tokenizer import Tokenizer

READER = PictureReader(image_tokens=20, frame_tokens=20, patch_size=16, pool_size=2)


def test_a_picture_and_its_digits():
    task = make_task("read_grid", {})
    item = task.open(0, check=None).train[5]
    asked, answer = task.conversation(item).messages
    assert answer["content"] == task.text(item)[1]
    digits = [int(digit) for digit in answer["content"].split()]
    assert digits == item["puzzle"].tolist() and 0 in digits
    assert answer["content"].count("\n") == 3
    ((kind, source),) = sources([asked])
    (picture,) = READER.read(kind, source)
    assert picture.soft_tokens == 20  # five columns and four rows, one a cell
    pieces = [Tokenizer.load().decode([i]) for i in Tokenizer.load().encode(answer["content"])]
    places = digit_places(pieces, 16)  # so soft tokens stand in the order of the answer's tokens
    assert len(pieces) == 19 and places == [i for i in range(20) if i % 5 < 4]
    pixels = np.asarray(task.picture_of(item), np.float32) / 255
    corner = picture.patches.patches[0].reshape(16, 16, 3)
    np.testing.assert_allclose(corner, pixels[:16, :16], atol=1e-6)


def test_the_solution_may_be_asked_for():
    task = ReadGridTask(answer="solution")
    item = task.open(0, check=None).train[5]
    question, answer = task.text(item)
    digits = ReadGridTask()
    assert question != digits.text(digits.open(0, check=None).train[5])[0]
    assert list(map(int, answer.split())) == item["solution"].tolist()
    assert task.picture_of(item).tobytes() == ReadGridTask().picture_of(item).tobytes()


@pytest.mark.parametrize("answer", ["digits", "solution"])
def test_a_page_and_a_picture_show_what_is_read(answer, monkeypatch):
    task = ReadGridTask(answer=answer)
    item = task.open(0, check=None).train[5]
    wanted = item["puzzle" if answer == "digits" else "solution"]
    given = item["puzzle"] * (answer == "solution")
    rows = wanted.reshape(4, 4).tolist()
    pieces = [piece for row in rows for piece in (*(f" {digit}" for digit in row), "\n")]
    view = task.view(item, pieces)
    assert view["cells"] == [i for i in range(20) if i % 5 < 4]
    assert view["right"] == list(map(str, wanted.tolist()))
    assert view.get("clues", []) == np.flatnonzero(given).tolist()
    assert task.view(item, ["12", *pieces[2:]]) is None

    wrong = [pieces[1], *pieces[1:]]
    replay = Replay([wrong], np.ones((1, 20), bool), np.zeros((1, 20), np.float32), pieces, 8)
    assert task.picture(item, replay).startswith(b"\x89PNG")
    drawn = []
    monkeypatch.setattr("data.sudoku.replay_strip.replay_strip", lambda *args: drawn.append(args))
    task.picture(item, replay)
    clues, right, digits, _, _, limit, photo = drawn[0]
    assert clues.tolist() == given.tolist() and right.tolist() == wanted.tolist() and limit == 8
    assert digits.tolist() == [[wanted[1], *wanted[1:]]]
    assert photo.tobytes() == task.picture_of(item).tobytes()


def test_both_may_be_asked_for_in_turn():
    both, alone = ReadGridTask(answer="either"), ReadGridTask(answer="solution")
    items = both.open(0, check=None).test
    assert both.text(items[4]) == ReadGridTask().text(ReadGridTask().open(0, check=None).test[4])
    assert both.text(items[5]) == alone.text(alone.open(0, check=None).test[5])
    rows = both.bins([items[i] for i in range(4)])["answer"]
    assert [list(asked) for asked in rows.values()] == [[1, 0, 1, 0], [0, 1, 0, 1]]


def test_scores():
    task = ReadGridTask()
    item = task.open(0, check=None).train[0]
    right = task.text(item)[1]
    assert task.score(item, right) == {"exact": 1, "valid": 1, "parts": 1}
    words = right.split()
    words[3] = str((int(words[3]) + 1) % 5)
    assert task.score(item, " ".join(words)) == {"exact": 0, "valid": 1, "parts": 15 / 16}
    assert task.score(item, " ".join(words[:2])) == {"exact": 0, "valid": 0, "parts": 2 / 16}
    assert task.score(item, f"{right} 0")["exact"] == 0
    assert task.score(item, "") == {"exact": 0, "valid": 0, "parts": 0}
    assert task.score(item, right.replace(words[0], "x"))["valid"] == 0


def test_held_out_pictures_have_other_fonts_and_puzzles():
    task = ReadGridTask()
    train, test = task.open(0, check=None)
    assert {test[i]["look"].font for i in range(100)} == set(FONTS["test"])
    assert {train[i]["look"].font for i in range(200)} == set(FONTS["train"])
    grids = [{tuple(split[i]["puzzle"]) for i in range(300)} for split in (train, test)]
    assert not grids[0] & grids[1]
    assert task.open(0, check=None, test=False).test is None
    again = task.open(0, check=None).test[7]
    assert again["look"] == test[7]["look"] and np.array_equal(again["puzzle"], test[7]["puzzle"])


def test_bins_and_columns():
    task = ReadGridTask()
    items = task.held_out(0, [40], check=None)
    items[0]["look"] = dataclasses.replace(items[0]["look"], turn=-5.9)
    bins = task.bins(items)
    for division in bins.values():
        assert np.array_equal(np.sum(list(division.values()), axis=0), np.ones(40))
    assert [rows[0] for rows in bins["rotation"].values()] == [False, False, True]
    rows = [task.columns(item) for item in items]
    assert len({row["picture"] for row in rows}) == 40 and rows[0]["degrees"] == "-5.9"


def test_settings_that_cannot_be():
    with pytest.raises(TaskError, match="take 2 for 4x4 or 3 for 9x9"):
        ReadGridTask(box=4)
    with pytest.raises(TaskError, match="take one of digits, solution, either"):
        ReadGridTask(answer="poem")
