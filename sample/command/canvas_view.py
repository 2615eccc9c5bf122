"""The canvas on a terminal, redrawn at every denoising step."""

import unicodedata
from collections.abc import Callable
from typing import TextIO

import numpy as np

from data.text.printable import printable
from data.text.tokenizer import Tokenizer
from sample.sampler import Snapshot

UNCERTAIN = 0.1  # nats; tokens of a larger entropy are dimmed
DIM, UNDERLINED, PLAIN = "\x1b[2m", "\x1b[4m", "\x1b[0m"
START_OF_LINE, CLEAR_BELOW = "\r", "\x1b[J"


class Draft:
    """Draws the first row of a batch: uncertain tokens dimmed, re-noised tokens underlined.

    The tokens are those that would be emitted if the loop ended now, up to the first stop token. If
    the text is too long for the terminal, its end is shown.

    Args:
      tokenizer: turns tokens into text.
      stop_ids: tokens that end a generation.
      stream: a terminal.
      size: a function that gives the terminal's columns and lines.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: tuple[int, ...],
        stream: TextIO,
        size: Callable[[], tuple[int, int]],
    ):
        self._tokenizer, self._stop_ids, self._stream = tokenizer, stop_ids, stream
        self._size = size
        self._drawn = 0  # number of lines on the screen
        self._forget()

    def draw(self, seen: Snapshot) -> None:
        """Draws one step; give this method to `generate` as watch."""
        seen = Snapshot(*map(np.asarray, seen))
        if not seen.live[0]:
            return
        if seen.k != self._k:
            self._k, self._before = seen.k, [*self._before, *self._canvas]
        self._canvas = [(piece, "") for piece in self._pieces(seen.best[0])]
        uncertain = seen.entropy[0] > UNCERTAIN
        # The step that stops a row draws nothing, so it accepts nothing: nothing is re-noised.
        noisy = ~seen.accepted[0] & seen.accepted[0].any()
        styled = [
            (piece, DIM * bool(uncertain[i]) + UNDERLINED * bool(noisy[i]))
            for i, (piece, _) in enumerate(self._canvas)
        ]
        columns, lines = self._size()
        self._show(layout([*self._before, *styled], columns)[-max(lines - 1, 1) :])

    def clear(self) -> None:
        """Takes the draft off the screen, so that the answer or a prompt can be written there."""
        self._show([])
        self._forget()

    def _forget(self) -> None:
        self._k = 0
        # Text and style of each token: of finished canvases, and of the one that is denoised.
        self._before: list[tuple[str, str]] = []
        self._canvas: list[tuple[str, str]] = []

    def _pieces(self, tokens: np.ndarray) -> list[str]:
        stops = np.flatnonzero(np.isin(tokens, self._stop_ids))
        if stops.size:
            tokens = tokens[: stops[0]]
        return [self._tokenizer.decode([token], skip_special=False) for token in tokens]

    def _show(self, lines: list[str]) -> None:
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        back = f"{up}{START_OF_LINE}{CLEAR_BELOW}" if self._drawn else ""
        self._stream.write(back + "\n".join(lines))
        self._stream.flush()
        self._drawn = len(lines)


def layout(pieces: list[tuple[str, str]], columns: int) -> list[str]:
    """Breaks styled texts into lines of at most `columns`, each of which ends in plain style."""
    lines, line, used = [], "", 0
    for text, style in pieces:
        for character in printable(text):
            width = _width(character)
            if character == "\n" or used + width > columns:
                lines.append(line)
                line, used = "", 0
            if character != "\n":
                line += f"{style}{character}{PLAIN}" if style else character
                used += width
    return [*lines, line]


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
