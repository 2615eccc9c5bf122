"""Tasks by name: those of the table, classes that lie elsewhere, and what is no task."""

import dataclasses
import re
from typing import ClassVar

import pytest

from data.settings import SettingsError
from data.tasks.base_mixture import BaseMixtureTask
from data.tasks.conversations import ConversationsTask
from data.tasks.graphs import GraphsTask
from data.tasks.needle import NeedleTask
from data.tasks.peptides import PeptidesTask
from data.tasks.read_grid import ReadGridTask
from data.tasks.registry import TASKS, is_setting_of_another, make_task, task_class
from data.tasks.sudoku import SudokuTask
from data.tasks.sudoku_fill import SudokuFillTask
from data.tasks.task import Splits, Task, TaskError

CLASSES = {
    "sudoku": SudokuTask,
    "sudoku_fill": SudokuFillTask,
    "graphs": GraphsTask,
    "peptides": PeptidesTask,
    "base_mixture": BaseMixtureTask,
    "read_grid": ReadGridTask,
    "needle": NeedleTask,
    "conversations": ConversationsTask,
}


@dataclasses.dataclass(frozen=True)
class Counting(Task):
    """Says a number again. Defined here, so that it can be named as MODULE:CLASS."""

    most: int = 9
    name: ClassVar[str] = "counting"
    title: ClassVar[str] = "counting"

    def open(self, seed, check, test=True):
        return Splits(range(self.most), range(self.most, 2 * self.most) if test else None)

    def text(self, item):
        return f"Say {item}", str(item)


def test_names():
    assert set(TASKS) == set(CLASSES)
    for name, expected in CLASSES.items():
        assert task_class(name) is expected
        assert expected.name == name
        task = make_task(name, {})
        assert type(task) is expected and task == expected()
        assert {"exact", "valid", "parts"} <= set(task.measures)


def test_settings_are_given_and_checked():
    assert make_task("sudoku", {"box": 2, "clues": 8}) == SudokuTask(box=2, clues="8")
    assert make_task("needle", {"longest": 64, "dense": True}) == NeedleTask(64, dense=True)
    for name, settings, error in [
        (
            "sudoku",
            {"clue": "40"},
            "no config field 'sudoku.clue': did you mean 'sudoku.clues'? there are box, clues",
        ),
        ("needle", {"dense": 1}, "config needle.dense: expected bool, got 1"),
        ("needle", {"longest": 20}, "config needle: prompts of 32 to 20 tokens: a needle takes 32"),
        ("sudoku", {"box": 4}, "config sudoku: box 4: take 3 for 9x9 or 2 for 4x4"),
        ("base_mixture", {"path": "a"}, "no config field 'base_mixture.path'"),
    ]:
        with pytest.raises(SettingsError, match=rf"^{re.escape(error)}") as caught:
            make_task(name, settings)
        assert "\n" not in str(caught.value)


def test_a_class_that_lies_elsewhere():
    name = f"{__name__}:Counting"
    assert task_class(name) is Counting
    task = make_task(name, {"most": 4})
    assert task == Counting(4)
    assert task.held_out(0, [2], None) == [4, 5]
    with pytest.raises(SettingsError, match=re.escape(f"no config field '{name}.least'")):
        make_task(name, {"least": 4})


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "sudoka",
            "no task 'sudoka': take one of sudoku, sudoku_fill, graphs, peptides, base_mixture, "
            "read_grid, needle, conversations, or name MODULE:CLASS",
        ),
        ("", "no task '': take one of sudoku"),
        ("data.tasks.needle", "no task 'data.tasks.needle'"),
        ("data.tasks.needle:", "no task 'data.tasks.needle:'"),
        ("no_such_module:Task", "task 'no_such_module:Task' cannot be imported: No module named"),
        (
            "data.tasks.needle:Needle",
            "task 'data.tasks.needle:Needle': Needle in data.tasks.needle is no subclass of Task",
        ),
        ("data.tasks.needle:NeedleSource", "NeedleSource in data.tasks.needle is no subclass"),
        ("data.tasks.needle:DIGITS", "DIGITS in data.tasks.needle is no subclass"),
    ],
)
def test_what_is_no_task(name, error):
    for use in (task_class, lambda name: make_task(name, {})):
        with pytest.raises(TaskError, match=re.escape(error)) as caught:
            use(name)
        assert "\n" not in str(caught.value)


def test_settings_of_other_tasks():
    assert is_setting_of_another("clues", "needle")
    assert is_setting_of_another("wrong", "sudoku")
    assert is_setting_of_another("path", "sudoku")  # conversations have it too
    assert not is_setting_of_another("most", "sudoku")
    assert not is_setting_of_another("clue", "needle")
    assert is_setting_of_another("box", f"{__name__}:Counting")
