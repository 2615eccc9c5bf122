"""Trains a model that solves a 9x9 Sudoku from its picture, or copies it.

    python -m train.main --config=configs/read_sudoku_tower.py --workdir=runs/read_sudoku_tower
    python -m train.main --config=configs/read_sudoku.py --workdir=runs/read_sudoku

The first run gives eyes to checkpoints/sudoku_long (configs/read_sudoku_tower.py). The second run
trains the text model by the recipe of configs/sudoku.py to read what the tower makes, and leaves
the tower as it is. Every second picture is to be solved. checkpoints/read_sudoku was trained so, in
127 minutes of two cores.
"""

import ml_collections

from configs import read_sudoku_tower, sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = read_sudoku_tower.get_config()
    config.init = "runs/read_sudoku_tower/model"
    config.steps = 6_000
    config.batch_size, config.accumulate = 4, 1
    config.data.answer = "either"
    config.images.tower = {}  # the one of the first run
    config.images.freeze = True
    config.loss.update(sudoku.get_config().loss, encoder_targets="answer", spelling=False)
    config.optimizer.update(peak_lr=1e-3, end_lr=2e-5, muon_rms=0.5, text_rate=1.0)
    config.sampler.update(sudoku.get_config().sampler)
    return config
