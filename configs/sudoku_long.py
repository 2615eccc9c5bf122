"""The long run: the main job's model goes on, 26 to 50 clues, two to three hours of one core.

python -m train.main --config=configs/sudoku_long.py --workdir=runs/sudoku_long
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    config = sudoku.get_config()
    config.init = "checkpoints/sudoku"
    config.steps = 20_000
    config.data.clues = "26-50"
    config.optimizer.peak_lr = 1.5e-3
    config.eval.every = 5_000
    config.checkpoint_every = 1000
    return config
