"""Trains the model of needle_4k.py further, on texts of 4,096 to 16,384 tokens.

    python -m train.main --config=configs/needle_16k.py --workdir=runs/needle_16k

scripts/long_context.py then measures the trained model.
"""

import ml_collections

from configs import needle_4k


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = needle_4k.get_config()
    config.init = "runs/needle_4k/model"
    config.batch_size = 2
    config.data.update(prompt_length=16_384, longest=16_384, shortest=4096)
    config.optimizer.peak_lr = 2e-3
    return config
