"""Trains a small model with eyes: it reads the digits of a 4x4 grid in a picture.

    python -m train.main --config=configs/read_grid.py --workdir=runs/copy \
        --config.steps=150 --config.data.spelled=1.0 --config.optimizer.text_rate=1.0
    python -m train.main --config=configs/read_grid.py --workdir=runs/read_grid \
        --config.init=runs/copy

The text model is the base, which copies grids by the distance between a digit and its copy. So the
pictures are as many soft tokens wide as a line of the answer has tokens. The first run teaches the
base the distance that soft tokens have, with grids as text (data/tasks/read_grid.py). The second
one trains the tower, and the text model stays as it is, so that it cannot learn to look past soft
tokens that mean nothing yet. Short runs are all that has been tried (docs/LOG.md).
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.preset, config.overrides = "", {}
    config.init = "checkpoints/base"
    config.steps = 5_000
    config.batch_size = 16
    config.workers = 1  # a picture takes 4 ms
    config.data = {"task": "read_grid", "prompt_length": 40}
    config.images = {
        "per_row": 1,
        "soft_tokens": 20,
        "tower": {
            "width": 96,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 4,
            "head_dim": 24,
            "mlp_dim": 192,
            "num_places": 64,
            "pool_size": 2,
            "standardize": False,
        },
    }
    config.loss.update(canvas_size=24, noise_draws=2, encoder_targets="answer")
    config.optimizer.update(peak_lr=2e-3, end_lr=2e-5, warmup=50, text_rate=0.0)
    config.sampler.update(max_steps=8)
    config.eval.update(every=1000, num=64)
    config.checkpoint_every = 1000
    return config
