"""Trains the base model to write peptides that meet demands (data/tasks/peptides.py).

python -m train.main --config=configs/peptides.py --workdir=runs/peptides
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.init = "checkpoints/base"
    config.steps = 11_000
    # The sampler writes about one residue a step, so it sees all noise levels equally often.
    config.loss.update(
        canvas_size=64, noise_draws=4, noise_power=1.0, self_conditioning=0.5, passes=2
    )
    # The demands are random, so nothing can predict the prompt. The answer is learned for decoding
    # from left to right too.
    config.loss.update(encoder_weight=0.1, encoder_targets="answer")
    config.data = {"task": "peptides", "prompt_length": 92}
    config.sampler.update(
        max_steps=48, restart_every=None, min_temperature=0.4, max_temperature=0.8
    )
    config.eval.update(every=1000, num=64)
    return config
