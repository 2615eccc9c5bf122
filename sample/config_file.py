"""Config files of runs, which are Python: what is wrong in one is said in a line that names it."""

import traceback
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import config_flags

READER = "config_flags.py"  # of ml_collections, which runs the file
PARSING = "Error whilst parsing config file"  # how it wraps some errors of the file


def config_fields(values: flags.FlagValues) -> Mapping[str, Any]:
    """The fields of the config in --config, with those that other flags have changed.

    Raises:
      ValueError: get_config of the file gives no ConfigDict.
      OSError: there is no such file.
    """
    config = values.config
    if not hasattr(config, "to_dict"):
        file, kind = config_flags.get_config_filename(values["config"]), type(config).__name__
        raise ValueError(f"{file}: its get_config() gives no ConfigDict, but {kind}")
    return config.to_dict()


def config_fault(error: Exception) -> str | None:
    """What is wrong in a config file, in one line; None if the error did not come from one.

    Args:
      error: what reading the command line has raised.
    """
    if PARSING in str(error) and error.__context__ is not None:
        error = error.__context__
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: SyntaxError: {error.msg}"
    if isinstance(error, AttributeError) and "'get_config'" in str(error):
        return f"{getattr(error.obj, '__file__', '--config')}: it has no function get_config"
    frames = traceback.extract_tb(error.__traceback__)
    readers = [i for i, frame in enumerate(frames) if frame.filename.endswith(READER)]
    if not readers:
        return None
    run = [f for f in frames[readers[-1] + 1 :] if "site-packages" not in f.filename]
    run = [f for f in run if not f.filename.startswith("<") and "importlib" not in f.filename]
    if not run:
        return None
    return f"{run[-1].filename}, line {run[-1].lineno}: {type(error).__name__}: {error}"
