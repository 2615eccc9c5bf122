"""Trains the model of needle.py further, on texts of up to 4,096 tokens with many numbers.

    python -m train.main --config=configs/needle_4k.py --workdir=runs/needle_4k

A text with many numbers is as hard as a longer text with few. The encoder's loss is left out, so
that the time of a step is in proportion to the length of the text (train/loss.py).
"""

import ml_collections

from configs import needle


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = needle.get_config()
    config.preset, config.overrides = "", {}
    config.init = "runs/needle/model"
    config.steps = 600
    config.batch_size = 4
    config.data.update(prompt_length=4096, longest=4096, dense=True)
    config.loss.encoder_weight = 0.0
    config.optimizer.update(peak_lr=1e-3, warmup=20, decay_fraction=0.7)
    config.eval.update(every=300, num=32, batch_size=4)
    return config
