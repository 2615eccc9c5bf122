"""The canvas on a terminal, redrawn at every denoising step."""

import functools
import unicodedata
from collections.abc import Callable, Sequence
from typing import TextIO

import jax
import numpy as np

from data.text.tokenizer import Tokenizer
from files.printable import printable
from sample.generation import Snapshot

UNCERTAIN = 0.1  # nats; tokens of a larger entropy are dimmed
DIM, UNDERLINED, PLAIN = "\x1b[2m", "\x1b[4m", "\x1b[0m"
START_OF_LINE, CLEAR_BELOW = "\r", "\x1b[J"
BYTES = 4  # the most bytes of a character in UTF-8, so the most tokens that it is spread over
BROKEN = "\ufffd"  # what bytes that are no whole character are decoded to


class Draft:
    """Draws the first row of a batch: uncertain tokens dimmed, re-noised tokens underlined.

    The tokens are those that would be emitted if the loop ended now, up to the first stop token. A
    character that is spread over several tokens is dimmed or underlined if one of them is. If the
    text is too long for the terminal, its end is shown.

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
        self._stop_ids, self._stream, self._size = stop_ids, stream, size
        # The same few tokens are decoded again at every step.
        self._decode = functools.lru_cache(2**16)(
            lambda ids: tokenizer.decode(ids, skip_special=False)
        )
        self._drawn = 0  # number of lines on the screen
        self._forget()

    def draw(self, seen: Snapshot) -> None:
        """Draws one step; give this method to `generate` as watch."""
        seen = jax.tree.map(np.asarray, seen)
        if not seen.live[0]:
            return
        if seen.k != self._k:
            self._k, self._before = seen.k, [*self._before, *self._canvas]
        ends = np.isin(seen.best[0], self._stop_ids)
        fixed = np.zeros_like(ends)
        if seen.given is not None:
            # A stop token in a hole ends nothing, and the kept one behind the text ends it.
            fixed = seen.given.keep[0]
            ends &= fixed | ~seen.given.goes_on[0]
        end = np.flatnonzero(ends)
        self._canvas = seen.best[0][: end[0] if end.size else None].tolist()
        uncertain = seen.entropy[0] > UNCERTAIN
        # The step that stops a row draws nothing, so it accepts nothing: nothing is re-noised.
        noisy = ~seen.accepted[0] & seen.accepted[0].any() & ~fixed
        styled, start = [], -len(self._before)  # where a piece starts in the canvas
        for text, count in characters([*self._before, *self._canvas], self._decode):
            part = slice(max(start, 0), max(start + count, 0))
            style = DIM * bool(uncertain[part].any()) + UNDERLINED * bool(noisy[part].any())
            styled.append((text, style))
            start += count
        columns, lines = self._size()
        self._show(layout(styled, columns)[-max(lines - 1, 1) :])

    def clear(self) -> None:
        """Takes the draft off the screen, so that the answer or a prompt can be written there."""
        self._show([])
        self._forget()

    def _forget(self) -> None:
        self._k = 0
        # The tokens of finished canvases, and of the one that is denoised.
        self._before: list[int] = []
        self._canvas: list[int] = []

    def _show(self, lines: list[str]) -> None:
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        back = f"{up}{START_OF_LINE}{CLEAR_BELOW}" if self._drawn else ""
        self._stream.write(back + "\n".join(lines))
        self._stream.flush()
        self._drawn = len(lines)


def characters(
    tokens: Sequence[int], decode: Callable[[tuple[int, ...]], str]
) -> list[tuple[str, int]]:
    """The text of tokens, in pieces of whole characters.

    Args:
      tokens: token ids.
      decode: gives the text of a few tokens.

    Returns:
      (text, number of tokens) of each piece. A piece is one token, or the few tokens that only
      together make a character. A token that makes no character with those after it is a piece with
      replacement marks.
    """
    pieces, start = [], 0
    while start < len(tokens):
        for count in range(1, min(BYTES, len(tokens) - start) + 1):
            text = decode(tuple(tokens[start : start + count]))
            if BROKEN not in text:
                break
        else:
            count, text = 1, decode((tokens[start],))
        pieces.append((text, count))
        start += count
    return pieces


def layout(pieces: list[tuple[str, str]], columns: int) -> list[str]:
    """Breaks styled texts into lines of at most `columns`, each of which ends in plain style."""
    lines, line, used, before = [], "", 0, ""
    for text, style in pieces:
        for character in printable(text, before):
            width = _width(character)
            if character == "\n" or used + width > columns:
                lines.append(line)
                line, used = "", 0
            if character != "\n":
                line += f"{style}{character}{PLAIN}" if style else character
                used += width
        before = text[-1:] or before
    return [*lines, line]


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
