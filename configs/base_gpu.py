"""Trains the small base model on one H100, in at most 8 minutes (scripts/gpu_train.sh OUT base).

    python -m train.main --config=configs/base_gpu.py --workdir=runs/base_gpu

It sees the tasks of configs/base.py, in larger batches. The heads have 32 dims, and theta is so
small that one of the 16 frequencies has a period of ten tokens, a row of a Sudoku grid. With the
released theta of 10,000, sixteen frequencies lie too far apart for a head to address columns by
position. The 26B has 128 frequencies, which lie close together, so it needs no such choice.
scripts/gpu_train.sh measures the time of a step and then chooses the number of steps.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.overrides = {
        "head_dim": 32,
        "full_head_dim": 64,
        "rope_theta": 265.0,
        "full_rope_theta": 70_400.0,
    }
    config.steps = 8000
    config.batch_size = 256
    config.loss.noise_draws = 4
    config.optimizer.update(peak_lr=3e-3, end_lr=5e-5, warmup=400)
    config.mesh.data = 1
    config.workers = 12
    config.eval.every = 0  # tasks of the base are evaluated afterwards, on a CPU
    config.log_every = 50
    config.keep = 1
    return config
