"""LoRA of rank 8 on the released 26B-A4B, after the technical report: Sudoku of a CSV file.

    python -m train.main --config=configs/sudoku_26b_lora.py --workdir=runs/sudoku_26b_lora \
        --config.init=DIR --config.data.path=sudoku.csv

DIR is the checkpoint's folder. The file has the columns puzzle and solution, as Kaggle's
rohanrao/sudoku has. Without --config.data.path puzzles are generated, and no file is needed.
"""

import ml_collections

from configs import base, sudoku


def get_config() -> ml_collections.ConfigDict:
    config = sudoku.get_config()
    config.init = ""
    config.dtype = "bfloat16"
    config.steps = 8000
    config.batch_size = 2
    config.data = {"task": "sudoku", "prompt_length": 256, "path": ""}
    published = base.get_config()
    config.loss, config.sampler = published.loss, published.sampler
    config.loss.update(canvas_size=256, noise_draws=1)
    # The report names peak, end, warm-up and decay. Google's own config names betas and clipping.
    config.optimizer.update(peak_lr=3e-4, end_lr=3e-5, warmup=400, schedule="cosine", b1=0.95)
    config.lora.update(rank=8, alpha=8.0)  # Google's factors have no scale, so alpha = rank
    config.mesh.data = 1
    config.remat = True
    config.eval.update(every=1000, num=64, batch_size=4)
    return config
