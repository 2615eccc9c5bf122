"""Trains the base model to fill in Sudoku puzzles whose clues stand on the canvas.

    python -m train.main --config=configs/sudoku_fill.py --workdir=runs/sudoku_fill

The prompt holds no puzzle. All else is the recipe of configs/sudoku.py. One row in four is a grid
with 1 to 10 wrong cells to repair.
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.init = "checkpoints/base"
    config.data = {
        "task": "sudoku_fill",
        "prompt_length": 15,
        "clues": "kaggle,kaggle-hidden",
        "wrong": "0,0,0,1-10",
    }
    config.sampler.restart_every = None  # its figures are without
    return config
