"""The needle's model goes on among as many numbers as words (scripts/long_context.py).

    python -m train.main --config=configs/needle_dense.py --workdir=runs/needle_dense

Among more numbers a short text is as hard as a longer one, and cheaper: that takes the model from
texts of 4,096 tokens to several times as many.
"""

import ml_collections

from configs import needle_long


def get_config() -> ml_collections.ConfigDict:
    config = needle_long.get_config()
    config.init = "runs/needle_long/model"
    config.steps = 250
    config.batch_size = 2
    config.data.update(dense=True, prompt_length=2048)
    config.eval.update(every=125, num=32, batch_size=4)
    return config
