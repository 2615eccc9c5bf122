"""Draws the denoising of an answer that is a grid of digits, as a picture and on a page."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from data.tasks.drawing import grid
from data.tasks.task import Replay
from data.text.digit_grid import digit_of, digit_places


def draw_replay(
    replay: Replay, clues: np.ndarray, wanted: np.ndarray, photo: Image.Image | None = None
) -> bytes | None:
    """A strip of grids, a grid for each step.

    Args:
      replay: the denoising.
      clues: [n*n] int, the digits that are drawn as given; 0 for the other cells.
      wanted: [n*n] int, the right digits.
      photo: a picture that the strip begins with.

    Returns:
      the bytes of a PNG file; None if the answer takes more than one canvas, or if the tokenizer
      does not give every digit a token of its own.
    """
    # Training and questions need no picture, and matplotlib takes long to import.
    from data.sudoku.replay_strip import replay_strip

    cells = digit_places(replay.expected, wanted.size)
    if cells is None or cells[-1] >= replay.accepted.shape[1]:
        return None
    shown = [[max(0, digit_of(step[i])) for i in cells] for step in replay.pieces]
    return replay_strip(
        clues,
        wanted,
        np.array(shown, np.int8),
        replay.accepted[:, cells],
        replay.entropy[:, cells],
        replay.limit,
        photo,
    )


def grid_view(
    expected: Sequence[str], clues: np.ndarray, wanted: np.ndarray
) -> dict[str, Any] | None:
    """How a page draws a grid whose side is the square of its boxes' side.

    Args:
      expected: texts of the tokens of the right answer.
      clues, wanted: as in draw_replay.

    Returns:
      the field `view` of a record; None if the tokenizer does not give every digit a token of its
      own.
    """
    cells = digit_places(expected, wanted.size)
    if cells is None:
        return None
    side, given = math.isqrt(wanted.size), np.flatnonzero(clues).tolist()
    right = list(map(str, wanted.tolist()))
    return grid(side, cells, given, math.isqrt(side), right).record()
