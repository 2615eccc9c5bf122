"""Trains a small model with eyes: it copies a 4x4 Sudoku from a picture, or solves it.

    python -m train.main --config=configs/read_grid_tower.py --workdir=runs/read_grid_tower
    python -m train.main --config=configs/read_grid.py --workdir=runs/read_grid

The first run trains a vision tower beside the base, which stays as it is
(configs/read_grid_tower.py). The second run trains the text model to read what the tower makes, and
leaves the tower as it is. Every second picture is to be solved.
"""

import ml_collections

from configs import read_grid_tower


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = read_grid_tower.get_config()
    config.init = "runs/read_grid_tower/model"
    config.steps = 560
    config.batch_size, config.accumulate = 16, 1
    config.data.answer = "either"
    config.images.tower = {}  # the one of the first run
    config.images.freeze = True
    config.loss.spelling = False
    config.loss.update(noise_draws=2, encoder_targets="answer")
    config.optimizer.update(peak_lr=1e-3, end_lr=2e-5, muon_rms=0.5, text_rate=1.0)
    return config
