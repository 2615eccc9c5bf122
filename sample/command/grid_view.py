"""A Sudoku grid that is drawn at every denoising step, on a terminal or into a pipe."""

import os
import shutil
import sys
import time
from typing import TextIO

import numpy as np

from data.sudoku.grids import grid_lines, render
from data.text.tokenizer import Tokenizer
from sample.generation import Snapshot

LINES = 16  # that a 9x9 grid takes on a terminal, with the texts around it
PLAIN, BOLD, GREEN, RED = "\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[1;31m"
# Styles of a re-noised cell by its entropy, divided by that of n equally probable digits.
PALE = ((0.2, ""), (0.6, "\x1b[2m"), (np.inf, "\x1b[2;90m"))
CLEAR_BELOW = "\x1b[J"


class GridView:
    """Draws one puzzle's denoising.

    On a terminal the grid is redrawn in place. Given digits are bold, accepted ones are green, and
    re-noised ones are the paler the higher their entropy. In a pipe the grids stand one below the
    other, and a re-noised cell is a dot.

    Attributes:
      waited: seconds that `draw` has waited, so that the eye can follow.

    Args:
      puzzle: [n*n] int8, 0 for an empty cell.
      tokenizer: the model's.
      max_steps: the sampler's limit.
      stream: the terminal or the pipe.
      redraw: whether the stream is a terminal on which a grid can be redrawn.
      delay: seconds to wait after each step.

    Raises:
      ValueError: the tokenizer does not give every digit a token of its own.
    """

    def __init__(
        self,
        puzzle: np.ndarray,
        tokenizer: Tokenizer,
        max_steps: int,
        stream: TextIO,
        redraw: bool,
        delay: float = 0.0,
    ):
        self.waited = 0.0
        self._puzzle, self._tokenizer, self._max_steps = puzzle, tokenizer, max_steps
        self._stream, self._redraw, self._delay = stream, redraw, delay
        self._places = digit_places(tokenizer, render(puzzle))
        if len(self._places) != len(puzzle):
            raise ValueError("the tokenizer does not give every digit a token of its own")
        self._drawn = 0  # lines on the screen that the next grid replaces

    def draw_puzzle(self, note: str) -> None:
        """Draws the puzzle, and a line of text below it."""
        cells = [self._cell(digit, BOLD if digit else "") for digit in self._puzzle]
        self._show([*grid_lines(cells), note])

    def draw(self, step: Snapshot) -> None:
        """Draws a step; this is a `watch` for sample.generate."""
        best, accepted, entropy = (
            np.asarray(x)[0][self._places] for x in (step.best, step.accepted, step.entropy)
        )
        if not accepted.any():  # the step that stops draws nothing, and its canvas is the answer
            accepted = np.ones_like(accepted)
        digits = [read_digit(self._tokenizer, token) for token in best.tolist()]
        cells = []
        for given, digit, kept, nats in zip(self._puzzle, digits, accepted, entropy, strict=True):
            if not (kept or given or self._redraw):
                digit = 0
            if given or kept:
                style = BOLD if given else GREEN
            else:
                style = pale_style(float(nats), len(digits))
            cells.append(self._cell(digit, style))
        empty = self._puzzle == 0
        status = (
            f"Step {int(step.n)} of at most {self._max_steps}: mean entropy "
            f"{float(np.mean(np.asarray(step.entropy)[0])):.4f} nats, "
            f"{(accepted & empty).sum()} of {empty.sum()} empty cells accepted"
        )
        self._show([*grid_lines(cells), status])
        time.sleep(self._delay)
        self.waited += self._delay

    def draw_answer(self, answer: np.ndarray | None, solution: np.ndarray) -> None:
        """Draws the answer with its wrong digits in red; without an answer the last step stays.

        Args:
          answer, solution: [n*n] int8.
        """
        if answer is None or not self._redraw:
            self._stream.write("\n")
            return
        cells = []
        for given, digit, right in zip(self._puzzle, answer, solution, strict=True):
            style = RED if digit != right else BOLD if given else GREEN
            cells.append(self._cell(digit, style))
        self._show(grid_lines(cells))
        self._stream.write("\n")

    def _cell(self, digit: int, style: str) -> str:
        text = str(digit) if digit else "."
        return f"{style}{text}{PLAIN}" if style and self._redraw else text

    def _show(self, lines: list[str]) -> None:
        if self._redraw:
            back = f"\x1b[{self._drawn}A\r{CLEAR_BELOW}" if self._drawn else ""
            self._stream.write(back + "\n".join(lines) + "\n")
            self._drawn = len(lines)
        else:
            self._stream.write("\n".join(lines) + "\n\n")
        self._stream.flush()


def can_redraw() -> bool:
    """Whether stdout is a terminal that understands escape codes and has room for a grid."""
    smart = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return smart and shutil.get_terminal_size().lines >= LINES


def pale_style(entropy: float, cells: int) -> str:
    """The style of a re-noised cell with this entropy in nats, in a grid of n*n cells."""
    share = entropy / np.log(cells**0.5)
    return next(style for limit, style in PALE if share < limit)


def read_digit(tokenizer: Tokenizer, token: int) -> int:
    """The digit 1..9 that a token stands for; 0 if it stands for anything else."""
    text = tokenizer.decode([token]).strip()
    return int(text) if len(text) == 1 and text in "123456789" else 0


def digit_places(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Which tokens of a text are digits 0..9: their indices, int64 [number of digits]."""
    texts = [tokenizer.decode([token]).strip() for token in tokenizer.encode(text)]
    return np.flatnonzero([len(piece) == 1 and piece in "0123456789" for piece in texts])
