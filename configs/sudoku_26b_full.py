"""Trains all weights of the released 26B-A4B model on Sudoku, on eight devices of 80 GB.

    python -m train.main --config=configs/sudoku_26b_full.py --workdir=runs/sudoku_26b_full \
        --config.init=DIR --config.data.path=sudoku.csv

The recipe is that of the technical report (docs/MODEL.md, Losses). The weights are float32 while
they are trained. In bfloat16, a change by less than 1/256 of a weight is rounded away, and at the
end of the run most changes are smaller than that.
"""

import ml_collections

from configs import sudoku_26b_lora


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku_26b_lora.get_config()
    config.dtype = "float32"
    config.steps = 2000
    config.batch_size = 8
    config.optimizer.update(name="adafactor", peak_lr=1.125e-4, end_lr=1.125e-5, warmup=100)
    config.lora.rank = 0
    config.mesh.fsdp = 8
    config.eval.update(every=500, batch_size=8)
    config.keep = 1  # a checkpoint takes 101 GB
    return config
