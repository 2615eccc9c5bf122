"""The long run: trains the base model on 9x9 Sudoku on one GPU, in a few minutes.

    bash scripts/gpu_train.sh OUT sudoku
    python -m train.main --config=configs/sudoku_gpu.py --workdir=runs/sudoku_gpu

The recipe is that of configs/sudoku.py, with larger batches. A third of the puzzles is like those
of Kaggle's rohanrao/sudoku, a third is like the ones among them that need hidden singles, and a
third has 26 to 50 clues. checkpoints/sudoku_long was trained so, in three runs. Before the last
one, scripts/grow.py doubled its layers (docs/RESULTS.md, Sudoku: the long run).
scripts/gpu_train.sh measures the time of a step and then chooses the number of steps.
"""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.steps = 4400
    config.batch_size = 128
    config.data.clues = "kaggle,kaggle-hidden,26-50"
    config.optimizer.update(peak_lr=3e-3, end_lr=5e-5, warmup=200)
    config.sampler.max_steps = 32  # of a better model, hardly any puzzle needs a fourth start
    config.mesh.data = 1
    config.workers = 12
    config.eval.every = 0  # evaluated afterwards, on a CPU
    config.log_every = 50
    config.keep = 1
    return config
