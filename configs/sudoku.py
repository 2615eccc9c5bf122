"""Trains the base model on 9x9 Sudoku puzzles like Kaggle's rohanrao/sudoku (scripts/sudoku.sh).

    python -m train.main --config=configs/sudoku.py --workdir=runs/sudoku

Half of the puzzles are like those of the file, and half are like the ones among them that need
hidden singles. All are generated; no puzzle of the file is seen.

To train on your own puzzles, give a file of them: a table with a column puzzle, a puzzle in each
line, or drawn grids (data/sudoku/puzzle_text.py). The solver finds solutions that the file lacks.

    python -m train.main --config=configs/sudoku.py --workdir=runs/mine \
        --config.data.path=FILE.csv
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = base.get_config()
    config.preset, config.overrides = "", {}
    config.init = "checkpoints/base"
    config.steps = 3_200
    config.batch_size = 4
    # Three of four canvases get soft embeddings, after 1, 2 or 3 passes. The sampler's steps start
    # from soft embeddings that many passes made. A model that is trained on first passes alone
    # trusts those of later passes too much.
    config.loss.update(noise_draws=4, self_conditioning=0.75, passes=3, pass_temperature=0.75)
    config.loss.noise_power = 3.0  # most of a sampler's steps see a canvas that is mostly noise
    # The encoder's loss consists mostly of the puzzle's digits, and nothing can predict those.
    config.loss.encoder_weight = 0.1
    config.data = {"task": "sudoku", "prompt_length": 104, "clues": "kaggle,kaggle-hidden"}
    config.optimizer.update(peak_lr=3e-3, end_lr=5e-5, warmup=100, decay_fraction=0.95)
    # A puzzle that has not settled after 10 steps hardly ever does, unless it starts again. So each
    # canvas has four starts.
    config.sampler.update(max_steps=44, restart_every=11, min_temperature=1.0, max_temperature=1.2)
    config.eval.update(every=1600, num=64)
    config.checkpoint_every = 500
    return config
