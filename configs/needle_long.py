"""What configs/needle.py learned, on prompts of up to 1,024 tokens: more numbers to tell apart.

python -m train.main --config=configs/needle_long.py --workdir=runs/needle_long
"""

import ml_collections

from configs import needle


def get_config() -> ml_collections.ConfigDict:
    config = needle.get_config()
    config.preset = ""
    config.init = "runs/needle/model"
    config.steps = 600
    config.batch_size = 4
    config.data.prompt_length = 1024
    config.optimizer.update(peak_lr=1e-3, end_lr=5e-5, warmup=20, decay_fraction=0.7)
    config.eval.every = 300
    return config
