"""The needle's model goes on among as many numbers as words (scripts/long_context.py).

    python -m train.main --config=configs/needle_long.py --workdir=runs/needle_4096 \
        --config.init=runs/needle_long/model --config.steps=300 --config.batch_size=2 \
        --config.data.prompt_length=4096
    python -m train.main --config=configs/needle_dense.py --workdir=runs/needle_dense

Among more numbers a short text is as hard as a longer one, and cheaper.
"""

import ml_collections

from configs import needle_long


def get_config() -> ml_collections.ConfigDict:
    config = needle_long.get_config()
    config.init = "runs/needle_4096/model"
    config.steps = 250
    config.batch_size = 2
    config.data.update(dense=True, prompt_length=2048)
    config.eval.update(every=125, num=32, batch_size=4)
    return config
