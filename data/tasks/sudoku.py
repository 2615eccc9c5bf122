"""The Sudoku task: puzzles that are generated or read from a file, with grids as answers."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from data.sudoku.engine import SudokuError, difficulty
from data.sudoku.grids import PROMPT, compare, digits, find_grid, parse, prompt, render
from data.sudoku.puzzle_file import Puzzles, read_puzzles
from data.sudoku.sources import KAGGLE, FileSource, Puzzle, SudokuSource, split_puzzles
from data.tasks.drawing import grid
from data.tasks.grid_replay import draw_replay, grid_view
from data.tasks.task import UNBOUNDED, Check, Replay, Splits, Task, TaskError
from data.text.digit_grid import digit_places
from files.printable import tell

DEFAULT_CLUES = {3: "40-50", 2: "8-10"}
CLUE_BINS = {  # box size -> name of a bin -> the smallest number of clues in it
    3: {"40 or more clues": 40, "30-39 clues": 30, "under 30 clues": 0},
    2: {"8 or more clues": 8, "6-7 clues": 6, "under 6 clues": 0},
}
KINDS = {  # a name in KAGGLE -> what reports call such puzzles
    "kaggle": "like Kaggle's",
    "kaggle-naked": "like Kaggle's, naked singles only",
    "kaggle-hidden": "like Kaggle's, hidden singles too",
    "kaggle-more": "like Kaggle's, more than singles",
}
DIFFICULTIES = ("naked singles only", "hidden singles too", "more than singles")


@dataclasses.dataclass(frozen=True)
class SudokuTask(Task):
    """Sudoku puzzles with one solution each.

    No symmetry turns a training puzzle into a held-out one (data/sudoku/symmetry.py).

    Attributes:
      box: box size, 3 for 9x9 puzzles and 2 for 4x4.
      clues: numbers of clues of generated puzzles: a range such as 40-50, or several ranges with
        commas between them. Each range gets equally many puzzles. Empty: 40-50, or 8-10 for 4x4.
        A name may stand for a 9x9 range: kaggle for puzzles like those of Kaggle's rohanrao/sudoku,
        and kaggle-naked, kaggle-hidden and kaggle-more for those of them that need naked singles
        only, hidden singles too, and more than singles.
      path: a file of puzzles in any layout of data/sudoku/puzzle_text.py. If it is given, no
        puzzles are generated: the first 90 % of the file are trained on, and the rest is held out.

    Raises:
      SudokuError: a setting cannot be used.
    """

    box: int = 3
    clues: str = ""
    path: str = ""

    name: ClassVar[str] = "sudoku"
    title: ClassVar[str] = "Sudoku"
    noun: ClassVar[str] = "puzzle"
    generated: ClassVar[tuple[str, ...]] = ("clues",)
    measures: ClassVar[dict[str, str]] = {
        "exact": "solved exactly",
        "other_format": "right, other format",
        "valid": "valid grids",
        "clues_kept": "all clues kept",
        "parts": "empty cells right",
    }
    published: ClassVar[dict[str, dict[str, Any]]] = {
        "like Kaggle's": {"who": "published: 26B with LoRA", "exact": 0.844, "steps": 10.72}
    }
    notes: ClassVar[tuple[str, ...]] = (
        "Solved exactly: the answer is the puzzle's one solution, written as the model is trained "
        "to write it: digits with white space between them, and nothing else. Right, other format: "
        "the answer is not written so, but the last full grid in it is the solution "
        "(docs/MODEL.md, Measures); no other measure counts such an answer. Valid: no row, column "
        "or box repeats a digit, whatever the clues are. Empty cells right: the mean over puzzles; "
        "an answer that is no grid has none right.",
        "For the 26B-A4B model with LoRA of rank 8, on 4,096 other puzzles, the technical report "
        "(arXiv 2608.00146) gives: 0.00 % solved before and 84.40 % after, in 40.65 and 10.72 "
        "effective denoising steps.",
        "Of the puzzles of Kaggle's rohanrao/sudoku, which that report used, 81.7 % need naked "
        "singles only, 16.4 % hidden singles too, and 1.9 % more than singles. 40.7 % have 40 or "
        "more clues, 57.3 % have 30 to 39, and 2.0 % have fewer.",
    )

    def __post_init__(self) -> None:
        if self.box not in DEFAULT_CLUES:
            raise SudokuError(f"box {self.box!r}: take 3 for 9x9 or 2 for 4x4")
        for clues in self.ranges:
            SudokuSource(0, 1, self.box, clues)  # checks the range

    @property
    def ranges(self) -> list[tuple[int, int] | str]:
        """The ranges of clues, (fewest, most) each, or the name in KAGGLE that stands for one.

        Raises:
          SudokuError: a text is neither.
        """
        ranges = []
        for part in (self.clues or DEFAULT_CLUES[self.box]).split(","):
            if part.strip() in KAGGLE:
                ranges.append(part.strip())
                continue
            ends = part.strip().split("-")
            if len(ends) > 2 or not all(end.isdecimal() for end in ends):
                raise SudokuError(
                    f"clues={self.clues}: '{part}' is not a range such as 30-39, and not one of "
                    f"{', '.join(KAGGLE)}"
                )
            ranges.append((int(ends[0]), int(ends[-1])))
        return ranges

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        if self.path:
            train, held_out, removed = split_puzzles(self._file(self.path), self.path, test)
            if removed:
                last = removed + len(held_out)
                tell(
                    f"{self.path}: the test leaves out {removed:,} of its {last:,} puzzles: each "
                    "of them is a training puzzle, or a symmetry of Sudoku turns it into one"
                )
            return Splits(train, held_out)

        def split(name: str) -> Sequence[Puzzle]:
            sources = [SudokuSource(seed, UNBOUNDED, self.box, r, name) for r in self.ranges]
            return sources[0] if len(sources) == 1 else InTurn(sources)

        return Splits(split("train"), split("test") if test else None)

    def text(self, item: Puzzle) -> tuple[str, str]:
        return prompt(item["puzzle"]), render(item["solution"])

    def score(self, item: Puzzle, answer: str) -> dict[str, float]:
        grid = parse(answer, self.box)
        if grid is None:
            grid = np.full(item["puzzle"].shape, -1, np.int8)
        found = compare(item["puzzle"][None], item["solution"][None], grid[None])
        scores = {name: float(found[name][0]) for name in ("exact", "valid", "clues_kept")}
        scores["parts"] = float(found["cells_right"][0])
        right = np.array_equal(find_grid(answer, self.box), item["solution"])
        scores["other_format"] = float(right and not scores["exact"])
        return {name: scores[name] for name in self.measures}

    def held_out(self, seed: int, counts: Sequence[int], check: Check) -> list[Puzzle]:
        ranges = self.ranges
        if self.path:
            return super().held_out(seed, counts, check)
        if len(counts) not in (1, len(ranges)):
            raise TaskError(f"{len(counts)} numbers of puzzles for {len(ranges)} ranges of clues")
        counts = list(counts) * (len(ranges) // len(counts))
        # Items of the same number in two ranges may share a solution. So each range takes items of
        # other numbers.
        ends = list(itertools.accumulate(counts))
        sources = [SudokuSource(seed, ends[-1], self.box, r, "test") for r in ranges]
        parts = zip(sources, counts, ends, strict=True)
        return [
            {**source[i], "kind": _kind(source.clues)}
            for source, count, end in parts
            for i in range(end - count, end)
        ]

    def read(self, path: str, limit: int | None, check: Check) -> list[Puzzle]:
        found = self._file(path, limit)
        return list(FileSource(path, found.puzzles, found.solutions))

    def _file(self, path: str, limit: int | None = None) -> Puzzles:
        """Reads a file, and says on stderr what was understood of it."""
        found = read_puzzles(path, self.box, limit)
        tell(found.story)
        return found

    def bins(self, items: Sequence[Puzzle]) -> dict[str, dict[str, np.ndarray]]:
        puzzles = np.stack([item["puzzle"] for item in items])
        clues, by_clues, above = (puzzles > 0).sum(axis=1), {}, np.inf
        for name, fewest in CLUE_BINS[self.box].items():
            by_clues[name] = (clues >= fewest) & (clues < above)
            above = fewest
        level = np.array([difficulty(puzzle, self.box) for puzzle in puzzles])
        by_technique = {name: level == i for i, name in enumerate(DIFFICULTIES)}
        bins = {"clues": by_clues, "technique": by_technique}
        kinds = [item.get("kind", "") for item in items]
        if not all(kinds):  # puzzles of a file
            return bins
        by_kind = {kind: np.array([k == kind for k in kinds]) for kind in dict.fromkeys(kinds)}
        return {"kind": by_kind, **bins}

    def columns(self, item: Puzzle) -> dict[str, str]:
        return {name: digits(item[name]) for name in ("puzzle", "solution")}

    def shown(self, answer: str) -> str:
        """The digits of the grid in the answer, in whatever format; empty if there is none."""
        grid = find_grid(answer, self.box)
        return "" if grid is None else digits(grid)

    def view(self, item: Puzzle, expected: Sequence[str]) -> dict[str, Any] | None:
        return grid_view(expected, item["puzzle"], item["solution"])

    def view_of_message(
        self, message: str, pieces: Callable[[str], list[str]]
    ) -> dict[str, Any] | None:
        """A grid, if the message is a puzzle as the task asks it, with white space as one likes."""
        said = message.split()
        head = PROMPT.format(grid="").split()
        side = math.isqrt(len(said) - len(head)) if len(said) > len(head) else 0
        box, signs = math.isqrt(side), said[len(head) :]
        if said[: len(head)] != head or box not in DEFAULT_CLUES or len(signs) != box**4:
            return None
        if not {str(digit) for digit in range(side + 1)}.issuperset(signs):
            return None
        puzzle = np.array(list(map(int, signs)), np.int8)
        cells = digit_places(pieces(render(np.ones_like(puzzle))), puzzle.size)
        return cells and grid(side, cells, np.flatnonzero(puzzle).tolist(), box).record()

    def picture(self, item: Puzzle, replay: Replay) -> bytes | None:
        return draw_replay(replay, item["puzzle"], item["solution"])


@dataclasses.dataclass(frozen=True)
class InTurn:
    """Several sources of generated puzzles that take turns.

    Item i is item i of source number i modulo the number of sources.
    """

    sources: list[SudokuSource]

    def __len__(self) -> int:
        return len(self.sources[0])

    def __getitem__(self, i: int) -> Puzzle:
        """Item i; raises IndexError outside 0..size-1."""
        return self.sources[i % len(self.sources)][i]


def _kind(clues: tuple[int, int] | str) -> str:
    """What reports call puzzles of a range of clues, or of a name in KAGGLE."""
    if isinstance(clues, str):
        return KINDS[clues]
    fewest, most = clues
    return f"{fewest} clues" if fewest == most else f"{fewest} to {most} clues"
