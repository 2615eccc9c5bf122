"""The config.json of a checkpoint, and other JSON files: read with errors that name the file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.config import PRESETS, ModelConfig
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.hf_config import config_from_hf, config_to_hf
from diffusiongemma.formats.vision_tables import GOOGLE_PREFIXES, HF_PREFIXES
from diffusiongemma.formats.weights import Weights
from files.json_file import MOST_BYTES, read_json_object

CONFIG = "config.json"


def read_config(file: Path, tower: bool | None = None) -> ModelConfig:
    """The model that a config.json describes.

    Args:
      file: the config.json.
      tower: as config_from_hf's.

    Raises:
      CheckpointError: the file is not there, or describes another kind of model.
    """
    return parse_config(file, read_content(file), tower)


def read_content(file: Path) -> dict[str, Any]:
    """The JSON object in a config.json. CheckpointError if the file is not there, or broken."""
    if not file.exists():
        raise CheckpointError(f"{file.parent}: no {file.name}")
    return read_json(file)


def parse_config(file: Path, content: dict[str, Any], tower: bool | None = None) -> ModelConfig:
    """The model that the content of a config.json describes.

    Args:
      file: the config.json, for messages.
      content: what is in it.
      tower: as config_from_hf's.

    Raises:
      CheckpointError: it describes another kind of model.
    """
    try:
        return config_from_hf(content, tower)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None


def find_config(config: ModelConfig | str | os.PathLike) -> ModelConfig:
    """The config that a caller names: itself, a preset, a config.json, or a folder with one.

    Raises:
      CheckpointError: there is no such preset and no such file, or the file is not a config.
    """
    if isinstance(config, ModelConfig):
        return config
    if config in PRESETS:
        return PRESETS[config]
    file = Path(config)
    if not file.exists():
        raise CheckpointError(
            f"config {config}: neither a preset ({', '.join(sorted(PRESETS))}) nor a file"
        )
    return read_config(file / CONFIG if file.is_dir() else file)


def config_text(weights: Weights, dtypes: Mapping[str, np.dtype]) -> str:
    """The text of the config.json for these weights.

    Args:
      weights: the weights that are written beside it.
      dtypes: name of each tensor written -> its dtype. The config names the widest one of the text
        model.

    Raises:
      CheckpointError: the config.json cannot describe the model.
    """
    try:
        config = config_to_hf(weights.config)
    except ValueError as error:
        raise CheckpointError(f"{weights.source}: {error}") from None
    return json_text(config | {"dtype": widest(dtypes)})


def widest(dtypes: Mapping[str, np.dtype]) -> str:
    """The name of the widest dtype of the text model's tensors; the tower may be wider."""
    text = text_dtypes(dtypes)
    return max(text.values(), key=lambda dtype: dtype.itemsize).name


def text_dtypes(dtypes: Mapping[str, np.dtype]) -> dict[str, np.dtype]:
    """Name -> dtype, without the tensors of the vision tower."""
    tower = (*HF_PREFIXES, *GOOGLE_PREFIXES)
    return {name: dtype for name, dtype in dtypes.items() if not name.startswith(tower)}


def read_json(file: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file of up to `most` bytes. CheckpointError for anything else."""
    try:
        return read_json_object(file, most)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def json_text(content: dict[str, Any]) -> str:
    """The text of a JSON file that people can read."""
    return json.dumps(content, indent=2) + "\n"
