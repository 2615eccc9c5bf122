"""Finds tasks by name.

A new task is one file and one line in TASKS. A task that lies elsewhere needs no line: a name of
the form MODULE:CLASS finds its class.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from data.settings import build
from data.tasks.task import Task, TaskError

# Name -> module and class. A task is imported when it is asked for, because Sudoku loads numba.
TASKS = {
    "sudoku": "data.tasks.sudoku:SudokuTask",
    "sudoku_fill": "data.tasks.sudoku_fill:SudokuFillTask",
    "graphs": "data.tasks.graphs:GraphsTask",
    "peptides": "data.tasks.peptides:PeptidesTask",
    "base_mixture": "data.tasks.base_mixture:BaseMixtureTask",
    "read_grid": "data.tasks.read_grid:ReadGridTask",
    "needle": "data.tasks.needle:NeedleTask",
    "conversations": "data.tasks.conversations:ConversationsTask",
}
DRAWN = ("sudoku",)  # the tasks that know a message that asks one of their items


@functools.cache
def task_class(name: str) -> type[Task]:
    """The class of a task.

    Args:
      name: its name in TASKS, or MODULE:CLASS.

    Raises:
      TaskError: there is no task of this name.
    """
    module, _, attribute = TASKS.get(name, name).partition(":")
    if not attribute:
        raise TaskError(f"no task '{name}': take one of {', '.join(TASKS)}, or name MODULE:CLASS")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise TaskError(f"task '{name}' cannot be imported: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise TaskError(f"task '{name}': {attribute} in {module} is no subclass of Task")
    return found


def make_task(name: str, settings: Mapping[str, Any], path: str | None = None) -> Task:
    """Makes a task. Settings that are not given have their defaults.

    Args:
      name: name of the task, as in task_class.
      settings: name of a setting -> value.
      path: text before the name of a setting in error messages, such as "data."; None for the
        task's name and a dot.

    Raises:
      TaskError: there is no such task.
      SettingsError: the task has no such setting, or refuses its value.
    """
    return build(task_class(name), settings, f"{name}." if path is None else path)


def view_of_message(message: str, pieces: Callable[[str], list[str]]) -> dict[str, Any] | None:
    """How a page draws the answer to a message, if it asks an item of a task in DRAWN.

    Args:
      message: what the user writes.
      pieces: gives the texts of the tokens of a text.

    Returns:
      the field `view` of a record; None for text.
    """
    views = (task_class(name)().view_of_message(message, pieces) for name in DRAWN)
    return next((view for view in views if view is not None), None)


def is_setting_of_another(setting: str, name: str) -> bool:
    """Whether a task in TASKS other than `name` has a setting of this name."""
    return any(
        setting == field.name
        for other in TASKS
        if other != name
        for field in dataclasses.fields(task_class(other))
    )
