"""Trains the base model to colour graphs with three colours.

python -m train.main --config=configs/graphs.py --workdir=runs/graphs
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.data = {"task": "graphs", "prompt_length": 152}
    config.loss.update(canvas_size=32, noise_power=1.0, self_conditioning=0.5, passes=2)
    config.loss.update(encoder_weight=0.5, encoder_targets="answer")
    return config
