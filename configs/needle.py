"""A small model that finds a number in a text longer than its sliding window.

python -m train.main --config=configs/needle.py --workdir=runs/needle
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.overrides = {"window": 64, "max_length": 131_072}
    config.steps = 4000
    config.batch_size = 8
    config.mesh.data = 1
    config.data.update(kind="needle", prompt_length=256)
    config.loss.update(canvas_size=8, noise_draws=4, encoder_targets="answer")
    config.eval.update(every=500, num=64, batch_size=64)
    return config
