"""Trains the small base model that fine-tuning starts from. It sees no Sudoku.

    python -m train.main --config=configs/base.py --workdir=runs/base

A config file gives only what its run chooses. All other fields have the defaults of RunConfig in
train/config.py and of the dataclasses that it names. Any field can be given on the command line.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "steps": 30_000,
            "batch_size": 8,
            "preset": "small",
            "overrides": {},
            "init": "",
            "data": {"task": "base_mixture", "prompt_length": 116},
            "loss": {"canvas_size": 90, "noise_draws": 2},
            "optimizer": {
                "name": "adam",
                "peak_lr": 2e-3,
                "end_lr": 1e-4,
                "warmup": 100,
                "schedule": "hold",
            },
            "mesh": {"data": 2},
            "lora": {},
            "eval": {"every": 3000, "num": 192},
            "sampler": {},
        }
    )
