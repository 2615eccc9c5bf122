"""Trains the base model to fill in Sudoku puzzles whose clues stand on the canvas, on one GPU.

    python -m train.main --config=configs/sudoku_fill.py --workdir=runs/sudoku_fill

The prompt holds no puzzle. All else is the recipe of configs/sudoku_gpu.py. One row in eight is a
grid with 1 to 10 wrong cells to repair. checkpoints/sudoku_fill was trained so. To try it on a CPU,
give --config.batch_size=4, --config.steps=1000 and --config.workers=1.
"""

import ml_collections

from configs import sudoku_gpu


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku_gpu.get_config()
    config.data = {
        "task": "sudoku_fill",
        "prompt_length": 15,
        "clues": "kaggle,kaggle-hidden,26-50",
        "wrong": "0,0,0,0,0,0,0,1-10",
    }
    config.sampler.restart_every = None  # as its figures were measured
    return config
