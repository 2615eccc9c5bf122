"""A tiny model's config, puzzles, and hand-made outcomes of an evaluation."""

import numpy as np

from data.sudoku.sources import Puzzle, SudokuSource
from diffusiongemma import ModelConfig
from train.outcome import Outcome

BOX, CANVAS = 2, 24
CONFIG = ModelConfig.preset(
    "tiny",
    vocab_size=1024,
    canvas_size=CANVAS,
    layer_types=("full",),
    stop_ids=(1, 106, 50),
)


def small_puzzles() -> list[Puzzle]:
    """Five 4x4 puzzles. Their answers fit the canvas of CONFIG."""
    return [SudokuSource(0, 5, BOX, (7, 9), "test")[i] for i in range(5)]


def five_puzzles() -> list[Puzzle]:
    """Three 9x9 puzzles with 40 clues or more, two with 30 to 39."""
    ranges = [(40, 40), (41, 41), (50, 50), (39, 39), (30, 30)]
    return [SudokuSource(0, 1, 3, r, "test")[0] for r in ranges]


def outcome(exact, steps=2, valid_tokens=10) -> Outcome:
    """Each puzzle is solved or has a quarter of its cells right. Each answer takes one canvas."""
    exact = np.array(exact, float)
    num = len(exact)
    return Outcome(
        answers=np.where(exact, "right", "wrong").astype(object),
        scores={
            "exact": exact,
            "other_format": np.zeros(num),
            "valid": exact,
            "clues_kept": np.ones(num),
            "parts": np.where(exact, 1.0, 0.25),
        },
        steps=np.broadcast_to(np.int32(steps), num)[:, None],
        valid_tokens=np.broadcast_to(np.int32(valid_tokens), num)[:, None],
        seconds=np.full(num, 0.5),
        compile_seconds=3.0,
    )
