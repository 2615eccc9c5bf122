"""Trains a vision tower whose soft tokens spell the digits of a 9x9 Sudoku in a picture.

    python -m train.main --config=configs/read_sudoku_tower.py --workdir=runs/read_sudoku_tower

It does what configs/read_grid_tower.py does for 4x4 grids, beside checkpoints/sudoku_long, which
solves puzzles that are given as text. It takes 55 minutes of two cores. configs/read_sudoku.py goes
on from here.
"""

import ml_collections

from configs import read_grid_tower


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = read_grid_tower.get_config()
    config.init = "checkpoints/sudoku_long"
    config.steps = 8_000
    config.batch_size, config.accumulate = 16, 8  # two of these pictures fit into the caches
    config.data.update(box=3, prompt_length=112)
    config.images.soft_tokens = 90
    config.loss.canvas_size = 90
    config.keep = 1
    return config
