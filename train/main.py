"""Trains a run; started again on the same workdir, it goes on where it stopped.

    python -m train.main --config=configs/sudoku.py --workdir=runs/sudoku --config.steps=100

Any field of the config can be given on the command line.
"""

import sys
from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from data.tokenizer import Tokenizer
from sample import cli
from train.config import RunConfig
from train.loop import train


def main(argv: list[str]) -> int:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "The run's file, configs/*.py.", values)
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)

    def run() -> None:
        if values.config is None or not values.workdir:
            raise ValueError("--config=FILE and --workdir=DIR are needed")
        logging.set_verbosity(logging.FATAL)  # orbax logs every file, and what it raises
        config = RunConfig.from_dict(values.config.to_dict())
        print(f"saved {train(config, Path(values.workdir), Tokenizer.load())}")

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
