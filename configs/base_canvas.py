"""Trains the base model further on grids that are given on the canvas, and on letters.

    python -m train.main --config=configs/base_canvas.py --workdir=runs/base_canvas

The tasks whose givens stand on the canvas start from this model: configs/sudoku_fill.py,
configs/graphs.py and configs/peptides.py. configs/sudoku.py starts from the base model itself,
because this stage helps it in nothing (docs/LOG.md).
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.preset, config.overrides = "", {}
    config.init = "checkpoints/base"
    config.steps = 6_000
    config.batch_size = 4
    config.data.on_canvas = 0.5
    config.loss.noise_draws = 4
    config.optimizer.update(peak_lr=1.5e-3, end_lr=2e-5, decay_fraction=0.9)
    config.mesh.data = 1
    config.eval.every = 0
    config.checkpoint_every = 500
    return config
