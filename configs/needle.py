"""Trains a very small model to find a number in a text that is longer than its sliding window.

python -m train.main --config=configs/needle.py --workdir=runs/needle
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.overrides = {
        "width": 64,
        "layer_types": ("sliding", "sliding", "full"),
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 32,
        "full_head_dim": 64,
        "window": 32,
        "num_experts": 4,
        "max_length": 131_072,
    }
    config.steps = 5000
    config.batch_size = 16
    config.mesh.data = 1
    config.data = {"task": "needle", "prompt_length": 128, "longest": 128}
    config.loss.update(canvas_size=8, noise_draws=4, encoder_targets="answer")
    config.eval.update(every=1000, num=64, batch_size=64)
    return config
