"""Trains the base model to colour graphs with three colours.

python -m train.main --config=configs/graphs.py --workdir=runs/graphs
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.steps = 2_400
    config.data = {"task": "graphs", "prompt_length": 72}
    config.loss.update(canvas_size=80, noise_power=1.5, self_conditioning=0.5, passes=2)
    config.loss.encoder_targets = "answer"
    config.sampler.update(min_temperature=0.4, max_temperature=0.8)
    return config
