"""Trains the small base model on one GPU, in at most 8 minutes (scripts/gpu_train.sh OUT base).

    python -m train.main --config=configs/base_gpu.py --workdir=runs/base_gpu
    python -m train.main --config=configs/base_gpu.py --workdir=runs/base_gpu \
        --config.preset= --config.init=runs/base

It sees the tasks of configs/base.py, in larger batches, and half of the grids are given on the
canvas and not in the prompt. The first command begins with random weights. The second one begins
with a base that a CPU has trained, or has begun to train. checkpoints/base has four stages, and
their configs are in its folder log.
scripts/gpu_train.sh measures the time of a step and then chooses the number of steps.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.steps = 5800
    config.batch_size = 256
    config.data.on_canvas = 0.5
    config.loss.noise_draws = 4
    config.optimizer.update(peak_lr=3e-3, end_lr=5e-5, warmup=200)
    config.mesh.data = 1
    config.workers = 12
    config.eval.every = 0  # tasks of the base are evaluated afterwards, on a CPU
    config.log_every = 50
    config.keep = 1
    return config
