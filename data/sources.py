"""Which examples a run trains on, and which are held out: DataConfig to a random-access source."""

import dataclasses
from collections.abc import Callable
from typing import Any

from data import sudoku
from data.pipeline import sudoku_to_text
from data.tasks import TaskSource, task_to_text

# Items that a generated source can give before it repeats itself.
UNBOUNDED = 2**30


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where examples come from.

    Attributes:
      kind: "tasks" (the base mixture), "sudoku" (generated puzzles) or "csv" (puzzles of a file).
      prompt_length: P, room for the prompt in tokens.
      box: Sudoku's box size, 3 for 9x9 and 2 for 4x4.
      clues: fewest and most clues of a generated puzzle.
      path: the CSV file, columns puzzle and solution.
    """

    kind: str
    prompt_length: int
    box: int = 3
    clues: tuple[int, int] = (40, 50)
    path: str = ""


def open_source(
    config: DataConfig, split: str, seed: int
) -> tuple[Any, Callable[[Any], tuple[str, str]]]:
    """(source, to_text) of the "train" or "test" split; items of the two are disjoint.

    For Sudoku disjoint up to its symmetries (data/symmetry.py), for the base mixture by seed.
    Raises ValueError on an unknown kind, and what the sources raise.
    """
    if config.kind == "tasks":
        return TaskSource(2 * seed + (split == "test"), UNBOUNDED), task_to_text
    if config.kind == "sudoku":
        source = sudoku.SudokuSource(seed, UNBOUNDED, config.box, tuple(config.clues), split)
        return source, sudoku_to_text
    if config.kind == "csv":
        return sudoku.CsvSource(config.path, split, config.box), sudoku_to_text
    raise ValueError(f"data.kind is 'tasks', 'sudoku' or 'csv', not '{config.kind}'")
