"""Trains a run: python -m train.main --config=configs/sudoku.py --workdir=runs/sudoku

Single fields are overridden as --config.steps=100. Started again on the same workdir, it goes on
where it stopped.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from data.tokenizer import Tokenizer
from train.config import RunConfig
from train.loop import NonFiniteLoss, train

_CONFIG = config_flags.DEFINE_config_file("config", None, "The run's config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, metrics and the result.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f"error: unexpected argument '{argv[1]}'")
    if _CONFIG.value is None or not _WORKDIR.value:
        sys.exit("error: --config=FILE and --workdir=DIR are needed")
    logging.set_verbosity(logging.WARNING)  # orbax reports every file
    try:
        config = RunConfig.from_dict(_CONFIG.value.to_dict())
        model = train(config, Path(_WORKDIR.value), Tokenizer.load())
    except (ValueError, OSError, NonFiniteLoss) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: start it again on the same workdir to go on")
    print(f"saved {model}")


if __name__ == "__main__":
    app.run(main)
