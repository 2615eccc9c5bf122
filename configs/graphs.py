"""Trains the base model to colour graphs of eight vertices with three colours.

    python -m train.main --config=configs/graphs.py --workdir=runs/graphs

A row of the matrix on the canvas takes ten tokens, as a row of Sudoku does. So the heads of the
base model that find rows and columns fit.
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.init = "checkpoints/base"
    config.steps = 4_000
    config.data = {"task": "graphs", "prompt_length": 72}
    # Most answers settle one colour at a step, so the sampler sees all levels of noise.
    config.loss.update(canvas_size=80, noise_power=1.5, self_conditioning=0.5, passes=2)
    config.loss.encoder_targets = "answer"
    config.sampler.update(restart_every=None, min_temperature=0.4, max_temperature=0.8)
    return config
