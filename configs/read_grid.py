"""Trains a small model with eyes to read 4x4 grids in pictures."""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.preset, config.overrides = "", {}
    config.init = "checkpoints/base"
    config.steps = 3_000
    config.batch_size = 16
    config.data = {"task": "read_grid", "prompt_length": 40}
    config.images = {
        "per_row": 1,
        "soft_tokens": 20,
        "tower": {
            "patch_size": 16,
            "pool_size": 2,
            "width": 96,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 4,
            "head_dim": 24,
            "mlp_dim": 192,
            "num_places": 64,
            "standardize": False,
        },
    }
    config.loss.update(canvas_size=24, noise_draws=2, encoder_targets="answer")
    config.optimizer.update(peak_lr=2e-3, end_lr=1e-4, warmup=100)
    config.sampler.update(max_steps=8)
    config.eval.update(every=1000, num=64)
    config.mesh = {}
    return config
