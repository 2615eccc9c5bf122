"""Sudoku on the canvas: clues that stay where they are, and grids with wrong cells to repair.

The prompt is one word and holds no puzzle, unless `in_prompt` says otherwise. To fill in, the clues
and the line ends are kept tokens. To repair, the canvas starts from the solution with some cells
changed to wrong digits. No cell is kept then, so the model must find the wrong ones. Repair needs a
larger entropy bound than the published one, because a step turns all draws that it does not accept
into noise.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from data.sudoku.engine import SudokuError
from data.sudoku.grids import digits, parse, valid_solutions
from data.sudoku.sources import SPLITS, Puzzle
from data.tasks.sudoku import SudokuTask
from data.tasks.task import Check, Replay, Splits
from data.text.digit_grid import grid_parts
from data.text.parts import Part

PROMPT = "Sudoku"


class GivenPuzzle(Puzzle):
    """A puzzle with what stands on the canvas.

    Attributes:
      given: [n*n] int8. To fill in, it is the puzzle: its clues are kept, and 0 is an empty cell.
        To repair, it is the solution with some wrong digits.
      wrong: the number of wrong digits; 0 to fill in.
    """

    given: np.ndarray
    wrong: int


@dataclasses.dataclass(frozen=True)
class SudokuFillTask(SudokuTask):
    """Sudoku puzzles whose clues stand on the canvas, and filled grids to repair.

    Attributes:
      wrong: numbers of wrong cells: 0 to fill in, a number or a range such as 1-10 to repair, or
        several of them with commas between them, which take turns. In a range, the numbers take
        turns, too.
      in_prompt: whether a puzzle to fill in stands in the prompt too, as in the task `sudoku`.

    Raises:
      SudokuError: a setting cannot be used.
    """

    wrong: str = "0"
    in_prompt: bool = False

    name: ClassVar[str] = "sudoku_fill"
    title: ClassVar[str] = "Sudoku on the canvas"
    measures: ClassVar[dict[str, str]] = {
        "exact": "solved exactly",
        "valid": "valid grids",
        "parts": "empty or wrong cells right",
        "found": "wrong cells changed",
        "spoiled": "right cells spoiled",
    }
    published: ClassVar[dict[str, dict[str, Any]]] = {}
    notes: ClassVar[tuple[str, ...]] = (
        "The prompt holds no puzzle, unless in_prompt is set. To fill in, the clues are kept "
        "tokens of the canvas. To repair, the canvas starts from a solution with some cells "
        "changed to wrong digits, and every digit may change.",
        "Solved exactly: the answer is the puzzle's one solution, or the grid that the cells were "
        "changed in. With one wrong cell no other valid grid is as near; with more, another one "
        "may be, though hardly ever is. Valid grids count any. An answer that is no grid changes "
        "no wrong cell and spoils all others.",
        "Wrong cells changed: the share of the wrong cells with another digit in the answer, "
        "right or not. Empty cells count as changed. Right cells spoiled: the share of the clues, "
        "or of the cells that were right, with a wrong digit in the answer.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        cells = self.box**4
        for low, high in self.wrong_ranges:
            if not 0 <= low <= high <= cells or (low == 0 and high):
                raise SudokuError(
                    f"wrong={self.wrong}: give 0 to fill in, and 1 to {cells} wrong cells to repair"
                )

    @property
    def wrong_ranges(self) -> list[tuple[int, int]]:
        """The numbers of wrong cells that take turns, (fewest, most) each.

        Raises:
          SudokuError: a text is neither a number nor a range.
        """
        ranges = []
        for part in self.wrong.split(","):
            ends = [end.strip() for end in part.split("-")]
            if len(ends) > 2 or not all(end.isdecimal() for end in ends):
                raise SudokuError(
                    f"wrong={self.wrong}: '{part}' is not a number of cells or a range such as 1-10"
                )
            ranges.append((int(ends[0]), int(ends[-1])))
        return ranges

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        train, held_out = super().open(seed, check, test)
        groups = 1 if self.path else len(self.ranges)  # groups of items that take turns
        return Splits(
            GivenPuzzles(self, train, (seed, SPLITS.index("train")), groups),
            GivenPuzzles(self, held_out, (seed, SPLITS.index("test")), groups) if test else None,
        )

    def held_out(self, seed: int, counts: Sequence[int], check: Check) -> list[GivenPuzzle]:
        items = super().held_out(seed, counts, check)
        if self.path:  # items of `open`
            return items
        return list(GivenPuzzles(self, items, (seed, SPLITS.index("test"))))

    def read(self, path: str, limit: int | None, check: Check) -> list[GivenPuzzle]:
        return list(GivenPuzzles(self, super().read(path, limit, check), (0,)))

    def text(self, item: GivenPuzzle) -> tuple[str, str]:
        prompt, answer = super().text(item)
        return prompt if self.in_prompt and not item["wrong"] else PROMPT, answer

    def parts(self, item: GivenPuzzle) -> list[Part]:
        """A part for each digit and for each line end. A digit goes with the space before it."""

        def cell(i: int, space: str, text: str) -> Part:
            shown = item["given"][i]
            if item["wrong"]:
                return Part(text, "start", f"{space}{shown}")
            return Part(text, "kept" if shown else "open")

        return grid_parts(item["solution"], self.box**2, cell)

    def score(self, item: GivenPuzzle, answer: str) -> dict[str, float]:
        grid, solution, given = parse(answer, self.box), item["solution"], item["given"]
        if grid is None:
            return dict.fromkeys(self.measures, 0.0) | {"spoiled": 1.0}
        right, shown_right = grid == solution, given == solution
        return {
            "exact": float(right.all()),
            "valid": float(valid_solutions(grid[None], self.box)[0]),
            "parts": _share(right[~shown_right]),
            "found": _share((grid != given)[~shown_right]),
            "spoiled": _share(~right[shown_right], nothing=0.0),
        }

    def bins(self, items: Sequence[GivenPuzzle]) -> dict[str, dict[str, np.ndarray]]:
        wrong = np.array([item["wrong"] for item in items])
        if not wrong.any():
            return super().bins(items)
        names = {k: f"{k} wrong" if k else "to fill in" for k in sorted(set(wrong.tolist()))}
        return {"wrong cells": {name: wrong == k for k, name in names.items()}}

    def columns(self, item: GivenPuzzle) -> dict[str, str]:
        return {name: digits(item[name]) for name in ("given", "solution")}

    def picture(self, item: GivenPuzzle, replay: Replay) -> bytes | None:
        """As for Sudoku. A grid to repair has no clues, so every cell is drawn as an open one."""
        return super().picture({**item, "puzzle": _clues(item)}, replay)

    def view(self, item: GivenPuzzle, expected: Sequence[str]) -> dict[str, Any] | None:
        return super().view({**item, "puzzle": _clues(item)}, expected)


@dataclasses.dataclass(frozen=True)
class GivenPuzzles:
    """Puzzles with what stands on the canvas, with random access.

    Attributes:
      task: says how many cells are wrong.
      puzzles: the puzzles, or items of another source of them.
      seed: random seeds of the wrong cells.
      groups: number of groups of puzzles that take turns. Each group gets all numbers of wrong
        cells.
    """

    task: SudokuFillTask
    puzzles: Sequence[Puzzle]
    seed: tuple[int, ...]
    groups: int = 1

    def __len__(self) -> int:
        return len(self.puzzles)

    def __getitem__(self, i: int) -> GivenPuzzle:
        """Item i; raises IndexError outside 0..size-1."""
        item, ranges = self.puzzles[i], self.task.wrong_ranges
        turn, group = divmod(i // self.groups, len(ranges))
        low, high = ranges[group]
        wrong = low + turn % (high - low + 1)
        given = item["puzzle"]
        if wrong:
            given = with_wrong(np.random.default_rng([*self.seed, i]), item["solution"], wrong)
        return {**item, "given": given, "wrong": wrong}


def with_wrong(rng: np.random.Generator, solution: np.ndarray, count: int) -> np.ndarray:
    """A grid with some cells changed to wrong digits.

    Args:
      rng: random numbers.
      solution: [n*n] int8, digits 1..n.
      count: number of cells to change. All cells and all wrong digits are equally likely.

    Returns:
      [n*n] int8.
    """
    n, grid = int(solution.max()), solution.copy()
    cells = rng.choice(len(grid), count, replace=False)
    grid[cells] = (grid[cells] - 1 + rng.integers(1, n, count)) % n + 1
    return grid


def _clues(item: GivenPuzzle) -> np.ndarray:
    """The digits that are drawn as clues: [n*n] int8, 0 for an open cell."""
    return np.zeros_like(item["given"]) if item["wrong"] else item["given"]


def _share(values: np.ndarray, nothing: float = 1.0) -> float:
    """The share of true values [n] bool; `nothing` if n = 0."""
    return float(values.mean()) if len(values) else nothing
