"""Asks a model for the solution of a Sudoku puzzle, and says whether its answer is right."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from data.sudoku.grids import check, find_grid, parse, prompt
from data.text.chat import answer_text
from sample.checkpoint import Checkpoint
from sample.generation import Snapshot
from sample.sampler import generate
from sample.split_model import SplitModel
from sample.step import SamplerConfig
from sample.timing import Clock

CHECKPOINT = "checkpoints/sudoku_long"  # of the shipped models, the one that solves most
WRONG_CELLS_SHOWN = 3


class Attempt(NamedTuple):
    """A model's answer to a puzzle.

    Attributes:
      grid: [n*n] int8, the grid in the answer, in whatever format it is; None if there is none.
      trained_format: whether the answer is written as the sudoku task writes it.
      steps: number of denoising steps, those of all canvases together.
      seconds: time of prefill and denoising.
      compile_seconds: time of compilation, which is not part of `seconds`.
      text: the answer.
    """

    grid: np.ndarray | None
    trained_format: bool
    steps: int
    seconds: float
    compile_seconds: float
    text: str


class PuzzleSolver:
    """A model that is asked as the sudoku task asks, in the checkpoint's chat template.

    Attributes:
      folder: the checkpoint's folder.
      tokenizer: the model's.
      sampler: the checkpoint's settings of the sampler.

    Args:
      checkpoint: the checkpoint. Its weights are read.

    Raises:
      ValueError, OSError: the checkpoint cannot be loaded.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.folder, self.tokenizer = checkpoint.folder, checkpoint.tokenizer
        self.sampler = SamplerConfig(**checkpoint.sampler_defaults)
        self._template, self._model = checkpoint.template, SplitModel(checkpoint.load())

    def ask(
        self, puzzle: np.ndarray, seed: int, watch: Callable[[Snapshot], None] | None = None
    ) -> Attempt:
        """Asks for the solution of a puzzle.

        Args:
          puzzle: [n*n] int8, 0 for an empty cell.
          seed: random seed of the sampler's noise.
          watch: sees every denoising step, as in sample.generate.

        Raises:
          ValueError: the puzzle and its answer do not fit the model's context.
        """
        text = self._template.render([{"role": "user", "content": prompt(puzzle)}])
        tokens = np.array([self.tokenizer.encode(text)], np.int32)
        with Clock() as clock:
            out = generate(
                self._model,
                tokens,
                None,
                jax.random.key(seed),
                self.sampler,
                watch=watch,
                clock=clock,
            )
        answer = answer_text(self.tokenizer, out.tokens[0, : out.valid_tokens[0].sum()])
        box = round(len(puzzle) ** 0.25)
        return Attempt(
            grid=find_grid(answer, box),
            trained_format=parse(answer, box) is not None,
            steps=int(out.steps[0].sum()),
            seconds=clock.seconds["prefill"] + clock.seconds["denoise"],
            compile_seconds=clock.compile_seconds,
            text=answer,
        )


def shipped() -> Path:
    """The folder CHECKPOINT, also outside of the repository if the package is installed from it.

    Raises:
      FileNotFoundError: it is in neither place.
    """
    places = [Path(CHECKPOINT), Path(__file__).parents[2] / CHECKPOINT]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"{CHECKPOINT} is not here: run the command in the repository, or give --checkpoint=DIR"
    )


def is_right(puzzle: np.ndarray, answer: np.ndarray | None) -> bool:
    """Whether an answer is a solution of a puzzle: full, by the rules, and with all clues kept."""
    return answer is not None and check(puzzle, answer, round(len(puzzle) ** 0.25))


def verdict(puzzle: np.ndarray, answer: np.ndarray | None, solution: np.ndarray | None) -> str:
    """One line that says whether an answer is right.

    Args:
      puzzle: [n*n] int8, 0 for an empty cell.
      answer: [n*n] int8; None if the answer is no grid.
      solution: [n*n] int8; None if the puzzle has several solutions.
    """
    size, n = len(puzzle), round(len(puzzle) ** 0.5)
    if answer is None:
        return f"Not solved: the model's answer is not a grid of {size} digits."
    if is_right(puzzle, answer):
        which = "one of the puzzle's solutions" if solution is None else "the puzzle's one solution"
        return f"Solved: the answer is {which}."
    if solution is None:
        return "Not solved: the answer changes a clue, or repeats a digit."
    wrong = np.flatnonzero(answer != solution)
    cells = [
        f"row {cell // n + 1}, column {cell % n + 1} is {answer[cell]}, not {solution[cell]}"
        for cell in wrong[:WRONG_CELLS_SHOWN]
    ]
    rest = f"; and {len(wrong) - len(cells)} more" if len(wrong) > len(cells) else ""
    empty = np.count_nonzero(puzzle == 0)
    are = "is" if len(wrong) == 1 else "are"
    return f"Not solved: {len(wrong)} of {size} cells {are} wrong ({empty} were empty): " + (
        "; ".join(cells) + rest + "."
    )


def effort(attempt: Attempt) -> str:
    """One line that says how many steps and seconds an answer took."""
    line = f"It took {attempt.steps} denoising steps and {attempt.seconds:.2f} seconds"
    if attempt.compile_seconds >= 0.1:
        line += f", after {attempt.compile_seconds:.1f} seconds of compilation"
    return f"{line}."
