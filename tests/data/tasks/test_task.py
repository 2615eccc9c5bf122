"""What every task has by default: held-out items, no files, scores by words, report lines."""

import dataclasses
from typing import ClassVar

import pytest

from data.tasks.task import Splits, Task, TaskError
from data.text.conversations import conversation


@dataclasses.dataclass(frozen=True)
class Spelling(Task):
    """Spells one of five words; the last two are held out."""

    name: ClassVar[str] = "spelling"
    title: ClassVar[str] = "spelling"
    noun: ClassVar[str] = "word"

    def open(self, seed, check, test=True):
        words = ["cat", "bird", "", "sea", "ox"]
        return Splits(words[:3], words[3:] if test else None)

    def text(self, item):
        return f"Spell {item}", " ".join(item)


def test_held_out_items_are_the_first_of_the_test_split():
    task = Spelling()
    assert task.held_out(0, [1], None) == ["sea"]
    assert task.held_out(0, [2], None) == ["sea", "ox"]
    for counts, error in [
        ([3], "only 2 words are held out, not 3"),
        ([1, 1], "task spelling has one group of items: give one number, not 2"),
        ([], "task spelling has one group of items: give one number, not 0"),
    ]:
        with pytest.raises(TaskError, match=error):
            task.held_out(0, counts, None)


def test_a_task_without_files():
    with pytest.raises(TaskError, match="task spelling has no files: its words are generated"):
        Spelling().read("a.csv", None, None)


@pytest.mark.parametrize(
    ("item", "answer", "exact", "valid", "parts"),
    [
        ("cat", "c a t", 1, 1, 1),
        ("cat", "\n c a t ", 1, 1, 1),
        ("cat", "c  a t", 0, 1, 1),
        ("cat", "c a", 0, 1, 2 / 3),
        ("cat", "c a t s", 0, 1, 1),
        ("cat", "x c a t", 0, 1, 0),
        ("cat", "c x t", 0, 1, 2 / 3),
        ("cat", "", 0, 0, 0),
        ("cat", " \n", 0, 0, 0),
        ("", "", 1, 0, 1),
        ("", "x", 0, 1, 0),
    ],
)
def test_scores(item, answer, exact, valid, parts):
    scores = Spelling().score(item, answer)
    assert scores == {"exact": exact, "valid": valid, "parts": parts}
    assert list(scores) == list(Task.measures)


def test_what_is_trained_on_and_what_a_report_says():
    task = Spelling()
    assert task.conversation("cat") == conversation("Spell cat", "c a t")
    assert task.columns("cat") == {"prompt": "Spell cat", "expected": "c a t"}
    assert task.shown("c a") == "c a"
    assert task.bins(["cat"]) == {} and task.picture("cat", None) is None
    assert task.view("cat", ["c", " a", " t"]) is None
    assert task.scored and task.notes == ()
