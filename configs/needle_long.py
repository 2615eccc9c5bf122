"""The needle's model goes on with prompts of up to 1,024 tokens (scripts/long_context.py).

python -m train.main --config=configs/needle_long.py --workdir=runs/needle_long
"""

import ml_collections

from configs import needle


def get_config() -> ml_collections.ConfigDict:
    config = needle.get_config()
    config.preset, config.overrides = "", {}
    config.init = "runs/needle/model"
    config.steps = 600
    config.batch_size = 4
    config.data.prompt_length = 1024
    config.optimizer.update(peak_lr=1e-3, warmup=20, decay_fraction=0.7)
    config.eval.update(every=300, batch_size=8)
    return config
