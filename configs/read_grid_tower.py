"""Trains a vision tower whose soft tokens spell the digits of a 4x4 grid in a picture.

    python -m train.main --config=configs/read_grid_tower.py --workdir=runs/read_grid_tower

A picture is as many soft tokens wide as a line of its transcript has tokens. So the head of the
base, which stays as it is, can tell each soft token what to be (train/spelling.py). This takes a
third of the time of a run through the text model, which has not yet learned to look at pictures.
configs/read_grid.py goes on from here.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.preset, config.overrides = "", {}
    config.init = "checkpoints/base"
    config.steps = 5_700
    config.batch_size = 32
    config.accumulate = 4  # eight pictures at a time fit into the caches
    config.workers = 1  # to draw a picture takes 2 ms
    config.data = {"task": "read_grid", "prompt_length": 40}
    config.images = {
        "per_row": 1,
        "soft_tokens": 20,
        "tower": {
            "width": 96,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 4,
            "head_dim": 24,
            "mlp_dim": 192,
            "num_places": 64,
            "pool_size": 2,
            "standardize": False,
        },
    }
    config.loss.update(canvas_size=24, spelling=True)
    config.optimizer.update(name="muon", muon_rms=1.0, schedule="cosine")
    config.optimizer.update(peak_lr=2e-3, end_lr=2e-5, warmup=50, text_rate=0.0)
    config.sampler.update(max_steps=8)
    config.mesh.data = 1  # the other core draws
    config.eval.every = 0  # the text model cannot read yet
    config.checkpoint_every = 1000
    return config
