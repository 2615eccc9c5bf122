"""Trains the model of sudoku.py further, on puzzles with 26 to 50 clues.

    python -m train.main --config=configs/sudoku_long.py --workdir=runs/sudoku_long

The run takes two to three hours on one core.
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.init = "checkpoints/sudoku"
    config.steps = 20_000
    config.data.clues = "26-50"
    config.optimizer.peak_lr = 1.5e-3
    config.eval.every = 5_000
    config.checkpoint_every = 1000
    return config
