"""Trains the model of sudoku.py further, on puzzles like Kaggle's and on harder ones.

    python -m train.main --config=configs/sudoku_long.py --workdir=runs/sudoku_long

A third of the puzzles are like Kaggle's, a third are like the ones among them that need hidden
singles, and a third have 26 to 50 clues. The run takes two hours on one core.
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.init = "checkpoints/sudoku"
    config.steps = 14_000
    config.data.clues = "kaggle,kaggle-hidden,26-50"
    config.optimizer.peak_lr = 1.5e-3
    config.eval.every = 5_000
    config.checkpoint_every = 1000
    return config
