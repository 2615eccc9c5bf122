"""The base mixture: exercises on grids of digits, words and letters. None of them is a Sudoku.

A small model learns from it what fine-tuning on Sudoku can start from: the layout of a prompt with
a grid, and the skills of data/tasks/grid_tasks.py. It stands in for the pre-training of the
released model.

A grid is written as in data/sudoku/grids.py: single spaces, a line for each row, and 0 for an empty
cell. A grid ends its prompt, or stands on the canvas and leaves the prompt its instruction. In a
Sudoku puzzle no row, column or box repeats a digit. A prompt, a canvas or an answer with a grid
that looks like a puzzle (`board.looks_like_sudoku`) is drawn again, so that neither puzzles nor
solutions occur.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from data.tasks.board import FEWEST_CLUES, board, looks_like_sudoku
from data.tasks.grid_tasks import GRID_TASKS
from data.tasks.seeded import SeededSource
from data.tasks.task import UNBOUNDED, Check, Splits, Task, TaskError
from data.text.digit_grid import grid_parts, render
from data.text.parts import Part

_WORDS = (
    "red blue green white black brown dog cat bird fish horse cow tree leaf root seed sun moon "
    "star sky sea river lake hill rain snow wind fire stone sand gold iron wood glass paper book "
    "pen desk door wall roof house room road bridge town city farm field garden apple bread milk "
    "salt rice water tea cup plate spoon knife table chair bed lamp clock key coat shoe hat ring "
    "hand foot head eye ear nose mouth arm boat ship train car wheel king queen child friend "
    "mother father teacher doctor song music dance game ball story letter name day night week "
    "month year spring summer winter morning evening north south east west"
)
WORDS = tuple(_WORDS.split())


def _number(value: int) -> str:
    """The digits of a number with spaces between them."""
    return " ".join(str(value))


def _line(digits: np.ndarray) -> str:
    """Digits, [N] int, as one line of text."""
    return render(digits, len(digits))


def _words(rng: np.random.Generator, low: int = 2, high: int = 24) -> list[str]:
    """Draws `low` to `high` words, both included."""
    return [WORDS[i] for i in rng.integers(0, len(WORDS), int(rng.integers(low, high + 1)))]


# Exercises without a grid. Each function draws one: (material, answer).


def _copy_words(rng: np.random.Generator) -> tuple[str, str]:
    text = " ".join(_words(rng, high=40))
    return text, text


def _reverse_words(rng: np.random.Generator) -> tuple[str, str]:
    words = _words(rng)
    return " ".join(words), " ".join(reversed(words))


def _count_words(rng: np.random.Generator) -> tuple[str, str]:
    words = _words(rng, high=20)
    return " ".join(words), _number(len(words))


def _sort_digits(rng: np.random.Generator) -> tuple[str, str]:
    digits = rng.integers(0, 10, int(rng.integers(2, 31)))
    return _line(digits), _line(np.sort(digits))


def _add(rng: np.random.Generator) -> tuple[str, str]:
    a, b = (int(x) for x in rng.integers(0, 10 ** rng.integers(1, 5, 2)))
    return f"{_number(a)} and {_number(b)}", _number(a + b)


def _compare(rng: np.random.Generator) -> tuple[str, str]:
    a, b = (int(x) for x in rng.integers(0, 10 ** rng.integers(1, 5, 2)))
    return f"{_number(a)} and {_number(b)}", _number(max(a, b))


_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _letters(rng: np.random.Generator, low: int = 2, high: int = 40) -> np.ndarray:
    """Draws `low` to `high` capital letters, both included: [N] str."""
    # Few kinds of letters occur often, as in a text, so that counting has something to count.
    kinds = rng.choice(_LETTERS, int(rng.integers(2, len(_LETTERS) + 1)), replace=False)
    return rng.choice(kinds, int(rng.integers(low, high + 1)))


def _copy_letters(rng: np.random.Generator) -> tuple[str, str]:
    text = "".join(_letters(rng))
    return text, text


def _reverse_letters(rng: np.random.Generator) -> tuple[str, str]:
    letters = _letters(rng)
    return "".join(letters), "".join(letters[::-1])


def _sort_letters(rng: np.random.Generator) -> tuple[str, str]:
    letters = _letters(rng)
    return "".join(letters), "".join(np.sort(letters))


def _pick_letters(rng: np.random.Generator) -> tuple[str, str]:
    letters = _letters(rng)
    chosen = rng.choice(np.unique(letters), int(rng.integers(1, 5)))
    picked = letters[np.isin(letters, chosen)]
    return f"{''.join(np.unique(chosen))} in {''.join(letters)}", "".join(picked)


def _count_letters(rng: np.random.Generator) -> tuple[str, str]:
    letters = _letters(rng)
    chosen = rng.choice(np.unique(letters), int(rng.integers(1, 5)))
    count = int(np.isin(letters, chosen).sum())
    return f"{''.join(np.unique(chosen))} in {''.join(letters)}", _number(count)


# The exercises whose answer is the grid with some of its empty cells filled.
FILLED = ("fill", "complete", "solve", "single", "place")

DrawWords = Callable[[np.random.Generator], tuple[str, str]]
# Name of an exercise -> (weight in percent, function that draws it, its instructions).
WORD_TASKS: dict[str, tuple[int, DrawWords, tuple[str, ...]]] = {
    "copy_words": (25, _copy_words, ("Copy the words", "Write the same words again")),
    "reverse_words": (20, _reverse_words, ("Reverse the words", "Write the words from the end")),
    "count_words": (10, _count_words, ("Count the words", "How many words")),
    "sort_digits": (20, _sort_digits, ("Sort the digits", "Write the digits in order")),
    "add": (15, _add, ("Add", "Add the numbers")),
    "compare": (10, _compare, ("Write the greater number", "Which number is greater")),
    "copy_letters": (30, _copy_letters, ("Copy the letters", "Write the same letters again")),
    "reverse_letters": (
        30,
        _reverse_letters,
        ("Reverse the letters", "Write the letters from the end"),
    ),
    "sort_letters": (30, _sort_letters, ("Sort the letters", "Write the letters in order")),
    "pick_letters": (30, _pick_letters, ("Keep only the letters", "Find every letter")),
    "count_letters": (30, _count_letters, ("Count the letters", "How many letters")),
}


class _Mixture:
    """Draws the name of an exercise, with a probability in proportion to its weight.

    Args:
      tasks: name -> a tuple that begins with the weight.
    """

    def __init__(self, tasks: Mapping[str, tuple[Any, ...]]) -> None:
        self.tasks = tasks
        self.names = tuple(tasks)
        weights = np.array([task[0] for task in tasks.values()], float)
        self.cumulative = np.cumsum(weights / weights.sum())
        self.cumulative[-1] = 1.0

    def draw(self, rng: np.random.Generator) -> str:
        return self.names[int(np.searchsorted(self.cumulative, rng.random(), side="right"))]


class MixtureSource(SeededSource):
    """The items of the base mixture, with random access. Item i depends on (seed, i) only.

    Args:
      seed: random seed.
      size: the number of items.
      shares: pairs (box size, share of all items). Box size 3 stands for 9x9 grids and 2 for 4x4.
        The items that are left have no grid.
      on_canvas: the share of the exercises of FILLED whose grid is given on the canvas. The digits
        stay there, and the prompt holds only the instruction.

    Raises:
      ValueError: a box size is neither 2 nor 3, or the shares add up to more than 1.
    """

    def __init__(
        self,
        seed: int,
        size: int = 2**30,
        shares: tuple[tuple[int, float], ...] = ((3, 0.75), (2, 0.1)),
        on_canvas: float = 0.0,
    ) -> None:
        if any(box not in FEWEST_CLUES for box, _ in shares):
            raise ValueError(f"the box sizes are {tuple(FEWEST_CLUES)}, not {shares}")
        if sum(share for _, share in shares) > 1 + 1e-9:
            raise ValueError(f"the shares of the box sizes add up to more than 1: {shares}")
        super().__init__(seed, size)
        self.shares, self.on_canvas = shares, on_canvas
        self._grids, self._texts = _Mixture(GRID_TASKS), _Mixture(WORD_TASKS)

    def draw(self, rng: np.random.Generator) -> dict[str, str]:
        """Draws an item: {"prompt", "answer", "task"}. "task" names the exercise.

        An item whose grid is given on the canvas has "given" too, the text of this grid.
        """
        draw = rng.random()
        for box, share in self.shares:
            if draw < share:
                return self._grid_item(rng, box)
            draw -= share
        return self._text_item(rng)

    def _grid_item(self, rng: np.random.Generator, box: int) -> dict[str, str]:
        name, b = self._grids.draw(rng), board(box)
        _, task, instructions = GRID_TASKS[name]
        while True:
            fields, grid, answer = task(rng, b)
            if looks_like_sudoku(b, grid):
                continue
            if answer.size == grid.size and looks_like_sudoku(b, answer):
                continue
            break
        text = instructions[rng.integers(len(instructions))].format(**fields)
        text, given = f"{text[0].upper()}{text[1:]}", render(grid, b.n)
        item = {"answer": render(answer, b.n), "task": f"{name}_{b.n}x{b.n}"}
        if self.on_canvas and name in FILLED and rng.random() < self.on_canvas:
            item["task"] += "_on_canvas"
            return item | {"prompt": text, "given": given}
        return item | {"prompt": f"{text}:\n{given}"}

    def _text_item(self, rng: np.random.Generator) -> dict[str, str]:
        name = self._texts.draw(rng)
        _, task, instructions = WORD_TASKS[name]
        material, answer = task(rng)
        text = instructions[rng.integers(len(instructions))]
        return {"prompt": f"{text}:\n{material}", "answer": answer, "task": name}


@dataclasses.dataclass(frozen=True)
class BaseMixtureTask(Task):
    """The base mixture. Training items have even seeds and held-out items have odd seeds.

    Attributes:
      on_canvas: the share of the exercises of FILLED whose grid is given on the canvas.

    Raises:
      TaskError: the share lies outside 0 to 1.
    """

    on_canvas: float = 0.0

    name: ClassVar[str] = "base_mixture"
    title: ClassVar[str] = "the base mixture"

    def __post_init__(self) -> None:
        if not 0 <= self.on_canvas <= 1:
            raise TaskError(f"on_canvas={self.on_canvas}: give a share from 0 to 1")

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        train, held_out = (
            MixtureSource(2 * seed + odd, UNBOUNDED, on_canvas=self.on_canvas) for odd in (0, 1)
        )
        return Splits(train, held_out if test else None)

    def text(self, item: dict[str, str]) -> tuple[str, str]:
        return item["prompt"], item["answer"]

    def parts(self, item: dict[str, str]) -> list[Part] | None:
        """The digits of a grid that is given on the canvas are kept, and so are its line ends."""
        if not self.on_canvas:
            return None
        if "given" not in item:
            return []
        given, answer = item["given"].split(), item["answer"].split()

        def cell(i: int, space: str, text: str) -> Part:
            return Part(text, "open" if given[i] == "0" else "kept")

        return grid_parts(np.array(answer, int), math.isqrt(len(answer)), cell)

    def bins(self, items: Sequence[dict[str, str]]) -> dict[str, dict[str, np.ndarray]]:
        kinds = np.array([item["task"] for item in items])
        sizes = {f"{size} grids": np.char.find(kinds, size) >= 0 for size in ("9x9", "4x4")}
        sizes["words and letters"] = ~np.logical_or.reduce(list(sizes.values()))
        return {
            "size": sizes,
            "kind": {kind: kinds == kind for kind in sorted(set(kinds.tolist()))},
        }
