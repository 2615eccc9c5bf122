"""The small general base model that fine-tuning starts from. It has seen no Sudoku.

python -m train.main --config=configs/base.py --workdir=runs/base
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "steps": 30_000,
            "batch_size": 8,
            "preset": "small",
            "overrides": {},
            "init": "",
            "dtype": "float32",
            "data": {
                "kind": "tasks",
                "prompt_length": 116,
                "box": 3,
                "clues": (40, 50),
                "shortest": 32,
                "dense": False,
                "path": "",
            },
            "loss": {
                "canvas_size": 90,
                "num_canvases": 1,
                "noise_draws": 2,
                "self_conditioning": 0.5,
                "passes": 1,
                "pass_temperature": 1.0,
                "encoder_weight": 1.0,
                "encoder_targets": "all",
            },
            "optimizer": {
                "name": "adam",
                "peak_lr": 2e-3,
                "end_lr": 1e-4,
                "warmup": 100,
                "schedule": "hold",
                "decay_fraction": 0.3,
                "b1": 0.9,
                "b2": 0.99,
                "weight_decay": 1e-4,
                "clip_norm": 1.0,
            },
            "mesh": {"data": 2, "fsdp": 1, "expert": 1},
            "accumulate": 1,
            "remat": False,
            "ema": 0.0,
            "lora": {"rank": 0, "alpha": 16.0, "pattern": ".*"},
            "eval": {"every": 3000, "num": 192, "batch_size": 64},
            "sampler": {"max_steps": 48, "entropy_bound": 0.1, "stop_threshold": 0.005},
            "log_every": 20,
            "checkpoint_every": 500,
            "keep": 2,
        }
    )
