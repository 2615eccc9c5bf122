"""The task of reading a grid: a picture of a Sudoku puzzle in, its digits as text out.

Pictures are drawn, with rotation, perspective, light, noise and many fonts (data/photos). The
second form of the task asks for the solution of the puzzle instead, and the third one for either.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from data.photos.fonts import Split
from data.photos.grid_photo import TURN, Look, draw_grid, draw_look
from data.sudoku.grids import digits, render
from data.sudoku.sources import SPLITS, Puzzle, SudokuSource
from data.tasks.grid_replay import draw_replay, grid_view
from data.tasks.task import UNBOUNDED, Check, Replay, Splits, Task, TaskError
from data.text.conversations import Conversation

# Words that the base model and the Sudoku models know from grids in text.
PROMPTS = {"digits": "Copy the grid:", "solution": "Solve the sudoku:"}
EITHER = "either"
CLUES = {2: (4, 12), 3: (25, 60)}  # box size -> the fewest and the most digits in a picture
LEVEL = TURN / 4  # degrees up to which a picture counts as level
TILTED = TURN * 3 / 4  # degrees from which it counts as tilted


class DrawnPuzzle(Puzzle):
    """A puzzle with the look of its picture.

    Attributes:
      look: how the picture looks.
      answer: what is asked for, "digits" or "solution".
    """

    look: Look
    answer: str


@dataclasses.dataclass(frozen=True)
class PhotoSource:
    """Puzzles with looks, with random access. Item i depends on the settings and on i alone.

    Attributes:
      seed: random seed.
      puzzles: the puzzles.
      split: the fonts.
      answers: what the items ask for, in turn.
    """

    seed: int
    puzzles: SudokuSource
    split: Split
    answers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.puzzles)

    def __getitem__(self, i: int) -> DrawnPuzzle:
        """Item i; raises IndexError outside 0..size-1."""
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), 1, i])
        return {
            **self.puzzles[i],
            "look": draw_look(rng, self.split),
            "answer": self.answers[i % len(self.answers)],
        }


@dataclasses.dataclass(frozen=True)
class ReadGridTask(Task):
    """Pictures of Sudoku puzzles. Held-out ones have fonts and puzzles that are never trained on.

    No symmetry turns a training puzzle into a held-out one (data/sudoku/symmetry.py).

    Attributes:
      box: box size, 2 for 4x4 grids and 3 for 9x9.
      answer: "digits" for the digits of the picture, with 0 for an empty cell; "solution" for the
        puzzle's solution; "either" for both in turn.

    Raises:
      TaskError: a setting cannot be used.
    """

    box: int = 2
    answer: str = "digits"

    name: ClassVar[str] = "read_grid"
    title: ClassVar[str] = "grids in pictures"
    noun: ClassVar[str] = "picture"
    measures: ClassVar[dict[str, str]] = {
        "exact": "right in every cell",
        "valid": "grids",
        "parts": "cells right",
    }

    def __post_init__(self) -> None:
        if self.box not in CLUES:
            raise TaskError(f"box {self.box!r}: take 2 for 4x4 or 3 for 9x9")
        if self.answer not in (*PROMPTS, EITHER):
            raise TaskError(f"answer {self.answer!r}: take one of {', '.join(PROMPTS)}, {EITHER}")

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        answers = tuple(PROMPTS) if self.answer == EITHER else (self.answer,)

        def split(name: Split) -> PhotoSource:
            puzzles = SudokuSource(seed, UNBOUNDED, self.box, CLUES[self.box], name)
            return PhotoSource(seed, puzzles, name, answers)

        return Splits(split("train"), split("test") if test else None)

    def wanted(self, item: DrawnPuzzle) -> np.ndarray:
        """The grid to answer, [n*n] int8."""
        return item["puzzle" if item["answer"] == "digits" else "solution"]

    def text(self, item: DrawnPuzzle) -> tuple[str, str]:
        return PROMPTS[item["answer"]], render(self.wanted(item))

    def picture_of(self, item: DrawnPuzzle) -> Image.Image:
        """The picture of an item, in RGB."""
        return draw_grid(item["puzzle"], self.box, item["look"])

    def conversation(self, item: DrawnPuzzle) -> Conversation:
        question, answer = self.text(item)
        parts = [
            {"type": "image", "image": self.picture_of(item)},
            {"type": "text", "text": question},
        ]
        asked = {"role": "user", "content": parts}
        return Conversation([asked, {"role": "assistant", "content": answer}])

    def score(self, item: DrawnPuzzle, answer: str) -> dict[str, float]:
        """Scores an answer: each cell counts if its digit stands at the cell's place."""
        wanted, words = list(map(str, self.wanted(item).tolist())), answer.split()
        known = set(map(str, range(self.box**2 + 1)))
        right = sum(word == digit for word, digit in zip(words, wanted, strict=False))
        return {
            "exact": float(words == wanted),
            "valid": float(len(words) == len(wanted) and known.issuperset(words)),
            "parts": right / len(wanted),
        }

    def bins(self, items: Sequence[DrawnPuzzle]) -> dict[str, dict[str, np.ndarray]]:
        turn = np.array([abs(item["look"].turn) for item in items])
        fonts = np.array([item["look"].font for item in items])
        asked = np.array([item["answer"] for item in items])
        return {
            "answer": {answer: asked == answer for answer in PROMPTS},
            "rotation": {
                f"up to {LEVEL:g} degrees": turn <= LEVEL,
                f"{LEVEL:g} to {TILTED:g} degrees": (turn > LEVEL) & (turn < TILTED),
                f"{TILTED:g} degrees or more": turn >= TILTED,
            },
            "font": {font: fonts == font for font in sorted(set(fonts.tolist()))},
        }

    def columns(self, item: DrawnPuzzle) -> dict[str, str]:
        look = item["look"]
        return {
            "picture": str(look.seed),
            "puzzle": digits(item["puzzle"]),
            "expected": digits(self.wanted(item)),
            "font": look.font,
            "degrees": f"{look.turn:.1f}",
        }

    def shown(self, answer: str) -> str:
        return " ".join(answer.split())

    def view(self, item: DrawnPuzzle, expected: Sequence[str]) -> dict[str, Any] | None:
        return grid_view(expected, self._clues(item), self.wanted(item))

    def picture(self, item: DrawnPuzzle, replay: Replay) -> bytes | None:
        """The picture of the puzzle, then a grid for each step."""
        return draw_replay(replay, self._clues(item), self.wanted(item), self.picture_of(item))

    def _clues(self, item: DrawnPuzzle) -> np.ndarray:
        """The digits that the picture gives, [n*n]; 0 for those that the model has to find.

        A model that only reads has to find them all.
        """
        return item["puzzle"] * (item["answer"] == "solution")
