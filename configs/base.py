"""Trains the small base model that fine-tuning starts from. It sees no Sudoku.

    python -m train.main --config=configs/base.py --workdir=runs/base

The heads have 32 dims, and theta is so small that one of the 16 frequencies has a period of ten
tokens, a row of a Sudoku grid. With the released theta of 10,000, sixteen frequencies lie too far
apart for a head to address columns by position. The 26B has 128 frequencies, which lie close
together, so it needs no such choice. configs/base_gpu.py trains the model further on a GPU.

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
            "overrides": {
                "head_dim": 32,
                "full_head_dim": 64,
                "rope_theta": 265.0,
                "full_rope_theta": 70_400.0,
            },
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
            "images": {},
            "eval": {"every": 3000, "num": 192},
            "sampler": {},
        }
    )
