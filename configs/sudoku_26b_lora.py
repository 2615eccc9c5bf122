"""Trains LoRA factors of rank 8 beside the released 26B-A4B model, on Sudoku from a CSV file.

    python -m train.main --config=configs/sudoku_26b_lora.py --workdir=runs/sudoku_26b_lora \
        --config.init=DIR --config.data.path=sudoku.csv

The recipe is that of the technical report (docs/MODEL.md, Losses). DIR is the checkpoint's folder.
The file must have the columns puzzle and solution, like Kaggle's rohanrao/sudoku. Without
--config.data.path the puzzles are generated, and no file is needed.
"""

import ml_collections

from configs import base, sudoku


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku.get_config()
    config.init = ""
    config.dtype = "bfloat16"
    config.steps = 8000
    config.batch_size = 2
    config.data = {"task": "sudoku", "prompt_length": 256, "path": ""}
    published = base.get_config()
    config.loss, config.sampler = published.loss, published.sampler
    config.loss.update(canvas_size=256, noise_draws=1)
    # The report gives the learning rates, the warm-up and the weight decay. Google's own config
    # gives Adam's decay rates and the clipping.
    config.optimizer.update(peak_lr=3e-4, end_lr=3e-5, warmup=400, schedule="cosine", b1=0.95)
    config.lora.update(rank=8, alpha=8.0)  # Google's factors have no scale: alpha = rank
    config.mesh.data = 1
    config.remat = True
    config.eval.update(every=1000, num=64, batch_size=4)
    return config
