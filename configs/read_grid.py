"""Trains a small model with eyes: it reads the digits of a 4x4 grid in a picture.

    python -m train.main --config=configs/read_grid.py --workdir=runs/read_grid
    python -m train.evaluate --checkpoint=runs/read_grid --generate=512 --out=runs/read_grid/report

The text model is the base, and the vision tower begins with random weights. The base copies grids
by the distance between a digit and its copy. So the pictures are as many soft tokens wide as a
line of the answer has tokens, and a part of the training grids stands in the prompt as text, at the
distance that soft tokens have (data/tasks/read_grid.py). With these the base keeps copying, and the
tower learns to make soft tokens that can be copied.
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
    config.data = {"task": "read_grid", "prompt_length": 40, "spelled": 0.25}
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
    config.optimizer.update(peak_lr=1e-3, end_lr=1e-5, warmup=100)
    config.sampler.update(max_steps=8)
    config.eval.update(every=1000, num=64)
    config.checkpoint_every = 1000
    return config
