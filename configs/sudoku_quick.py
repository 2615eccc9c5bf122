"""Trains the base model on 4x4 Sudoku puzzles in a few minutes (scripts/sudoku.sh --quick)."""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.steps = 1500
    config.data.update(prompt_length=36, box=2, clues="4-8")
    config.loss.canvas_size = 24
    config.eval.every = 750
    return config
