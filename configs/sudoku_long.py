"""The long run: 9x9 Sudoku from 26 to 50 clues, a few hours of one core.

python -m train.main --config=configs/sudoku_long.py --workdir=runs/sudoku_long
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    config = sudoku.get_config()
    config.steps = 22_000
    config.data.clues = (26, 50)
    config.eval.every = 5_500
    config.checkpoint_every = 1000
    return config
