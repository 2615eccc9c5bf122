"""Which examples a run trains on, and which are held out: DataConfig to random-access sources."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data.pipeline import Packer, sudoku_to_text
from data.sudoku import grids
from data.tasks.base_mixture import TaskSource, task_to_text
from data.tasks.needle import SHORTEST, NeedleSource
from data.text.conversations import TEST_SHARE, conversation, open_conversations

# Items that a generated source can give before it repeats itself.
UNBOUNDED = 2**30


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where examples come from.

    Attributes:
      kind: "tasks" (the base mixture), "sudoku" (generated puzzles), "csv" (puzzles of a file),
        "needle" (one number in a text of up to P tokens) or "chat" (conversations of a file).
      prompt_length: P, room for the prompt in tokens.
      box: Sudoku's box size, 3 for 9x9 and 2 for 4x4.
      clues: fewest and most clues of a generated puzzle.
      shortest: tokens of the shortest prompt with a needle.
      dense: needles among more numbers than usual (data/tasks/needle.py).
      path: the file: CSV with the columns puzzle and solution, or JSONL (conversations.py).
    """

    kind: str
    prompt_length: int
    box: int = 3
    clues: tuple[int, int] = (40, 50)
    shortest: int = SHORTEST
    dense: bool = False
    path: str = ""


class Sources(NamedTuple):
    """Random access to the items of a run's two splits, and what makes an item a row."""

    train: Any
    test: Any | None
    to_row: Callable[[Any], dict[str, np.ndarray]]


def open_sources(config: DataConfig, seed: int, packer: Packer, test: bool = True) -> Sources:
    """The two splits; without `test` only the one to train on.

    No item of one is in the other: of Sudoku up to its symmetries (data/sudoku/symmetry.py), of the
    base mixture and of needles by seed, of conversations by a hash. A file is read and checked as a
    whole.

    Raises:
      ValueError: an unknown kind, no path for a file, a split without an item, or what the sources
        raise.
      OSError: the file cannot be read.
    """
    if config.kind == "chat":
        splits = open_conversations(_path(config, "FILE.jsonl"), packer)
        if not len(splits["train"]):
            raise ValueError(f"{config.path}: every conversation is held out: give more of them")
        if test and not len(splits["test"]):
            raise ValueError(
                f"{config.path}: of {len(splits['train'])} conversations none fell to the "
                f"{TEST_SHARE:.0%} held out: give more of them, or --config.eval.every=0"
            )
        return Sources(splits["train"], splits["test"] if test else None, packer)

    train, to_text = _open_split(config, "train", seed)

    def to_row(item: Any) -> dict[str, np.ndarray]:
        return packer(conversation(*to_text(item)))

    return Sources(train, _open_split(config, "test", seed)[0] if test else None, to_row)


def _open_split(
    config: DataConfig, split: str, seed: int
) -> tuple[Any, Callable[[Any], tuple[str, str]]]:
    """(source, item -> question and answer) of a kind that asks one thing."""
    of_split = 2 * seed + (split == "test")
    if config.kind == "tasks":
        return TaskSource(of_split, UNBOUNDED), task_to_text
    if config.kind == "needle":
        lengths = config.prompt_length, config.shortest
        source = NeedleSource(of_split, UNBOUNDED, *lengths, dense=config.dense)
        return source, task_to_text
    if config.kind == "sudoku":
        source = grids.SudokuSource(seed, UNBOUNDED, config.box, tuple(config.clues), split)
        return source, sudoku_to_text
    if config.kind == "csv":
        return grids.CsvSource(_path(config, "FILE.csv"), split, config.box), sudoku_to_text
    kinds = "'tasks', 'sudoku', 'csv', 'needle' or 'chat'"
    raise ValueError(f"data.kind is {kinds}, not '{config.kind}'")


def _path(config: DataConfig, example: str) -> str:
    if not config.path:
        raise ValueError(f"data.kind '{config.kind}' needs a file: --config.data.path={example}")
    return config.path
