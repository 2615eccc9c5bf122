"""Checkpoints of every format, told apart by their folders: loaded, saved and converted.

    hf      config.json and *.safetensors, as released        hf_checkpoint.py
    google  an Orbax checkpoint of Google's Linen tree        google_checkpoint.py
    orbax   this project's own, and a training run's latest   run_checkpoint.py

The tables of names are in convert.py, and what the formats share in tensors.py.
"""

import os
import shutil
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from diffusiongemma import orbax_tree
from diffusiongemma.config import PRESETS, ModelConfig
from diffusiongemma.google_checkpoint import open_google, write_google
from diffusiongemma.hf_checkpoint import (
    CONFIG,
    SHARD_BYTES,
    is_hf,
    open_hf,
    pickles,
    read_config,
    save_hf,
    write_hf,
)
from diffusiongemma.lora import merge_lora
from diffusiongemma.run_checkpoint import (
    description,
    is_orbax,
    is_run,
    latest_step,
    load_lora,
    open_orbax,
    write_orbax,
)
from diffusiongemma.staging import staged
from diffusiongemma.tensors import (
    CheckpointError,
    Sharding,
    Stored,
    Weights,
    known_dtype,
    load_model,
    report,
    weights_of_model,
    weights_of_stored,
)
from diffusiongemma.transformer import DiffusionGemma

Format = Literal["hf", "google", "orbax"]
# Files of the released folder that belong to the model, and go where its weights go.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)


def load_checkpoint(
    path: str | os.PathLike,
    dtype=None,
    sharding: Sharding | None = None,
    config: ModelConfig | str | os.PathLike | None = None,
) -> DiffusionGemma:
    """The model in a checkpoint of any format, or a training run's latest one.

    Args:
      path: a folder in the released layout (config.json and one or more *.safetensors, with or
        without an index), in Google's, or in this project's; or the workdir of a run of train.main.
      dtype: of the parameters: float32, bfloat16 or float16; None keeps each tensor's own.
      sharding: where parameters go; None: the default device. A LoRA run's base checkpoint alone
        follows it.
      config: for Google's layout, which has none: a ModelConfig, a preset's name or a config.json;
        None: the config.json in the folder.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together; if there is nothing of that kind, every tensor with an inf or a nan.
    """
    dtype = None if dtype is None else known_dtype(dtype)
    opened = _open(Path(path), config)
    if isinstance(opened, Stored):
        return load_model(opened, dtype, sharding)

    def load_init(init, dtype):
        return load_checkpoint(init, dtype, sharding)

    return load_lora(opened, dtype, load_init)


def save_checkpoint(
    model: DiffusionGemma,
    path: str | os.PathLike,
    dtype=None,
    format: Format = "hf",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder that load_checkpoint loads, and transformers 5.23.0 too if it is "hf".

    Files get their names when they are complete; after an error nothing half-written is left. The
    tokenizer and generation_config.json are not the model's, and not written.

    Args:
      model: without LoRA factors: merge them first.
      path: a folder, made if need be. Only "hf" writes into one with files in it.
      dtype: of the tensors written; None keeps each parameter's own.
      format: see the module.
      shard_bytes: of "hf": larger weights go into several files with an index.

    Raises:
      CheckpointError: parameters that the format has no place for, a dtype it does not know, a
        folder with other weights in it, or a disk that is full or read-only.
    """
    folder = Path(path)
    _check_format(format)
    weights = weights_of_model(model, None if dtype is None else known_dtype(dtype))
    if format == "hf":
        save_hf(folder, weights, shard_bytes)
        return
    with staged(folder) as temporary:
        _write(temporary, weights, format, shard_bytes)


def convert_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    format: Format,
    dtype=None,
    config: ModelConfig | str | os.PathLike | None = None,
    shard_bytes: int = SHARD_BYTES,
    flat: bool = False,
) -> None:
    """Writes a checkpoint in another format, tensor by tensor: the model is never whole in memory.

    The tokenizer's files, the chat template and generation_config.json come along. A LoRA run is
    merged, for which its model is loaded.

    Args:
      source, config: as load_checkpoint's.
      target: a folder, not there yet or empty. It appears whole or not at all.
      format, shard_bytes: as save_checkpoint's.
      dtype: of the tensors written; None keeps each one's own, to the bit.
      flat: of "google": the form with the prefix.

    Raises:
      CheckpointError: as load_checkpoint and save_checkpoint.
    """
    folder, target = Path(source), Path(target)
    _check_format(format)
    dtype = None if dtype is None else known_dtype(dtype)
    with staged(target) as temporary:
        weights = _weights(folder, dtype, config)
        _write(temporary, weights, format, shard_bytes, flat)
        report(folder, {"inf or nan": weights.broken})
        for name in COMPANIONS:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, temporary / name)


def _open(folder: Path, config) -> Stored | Path:
    """The checkpoint of a whole model in a folder, or the folder of a LoRA run's checkpoint."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    bare_tree = orbax_tree.is_tree(folder) and not is_hf(folder)
    if config is not None and not bare_tree:
        raise CheckpointError(f"{folder}: not in Google's layout, so it has its own config")
    if is_hf(folder):
        return open_hf(folder)
    if bare_tree:
        return open_google(folder, None if config is None else _named_config(config))
    if is_run(folder) and not is_orbax(folder):
        folder = latest_step(folder)
    if is_orbax(folder):
        stored = description(folder)
        return folder if stored["lora"]["rank"] else open_orbax(folder, stored["config"])
    if pickles(folder):
        raise CheckpointError(
            f"{folder}: only pickle files ({', '.join(pickles(folder))}), which can run code when "
            "they are read, and are not: save the weights as safetensors"
        )
    raise CheckpointError(
        f"{folder}: no checkpoint: expected {CONFIG} and *.safetensors, or a checkpoint of Orbax"
    )


def _weights(folder: Path, dtype: np.dtype | None, config) -> Weights:
    opened = _open(folder, config)
    if isinstance(opened, Stored):
        return weights_of_stored(opened, dtype)
    model = load_checkpoint(opened)
    merge_lora(model)
    return weights_of_model(model, dtype)


def _write(
    folder: Path, weights: Weights, format: Format, shard_bytes: int, flat: bool = False
) -> None:
    if format == "hf":
        write_hf(folder, weights, shard_bytes)
    elif format == "google":
        write_google(folder, weights, flat=flat)
    else:
        write_orbax(folder, weights)


def _check_format(format: str) -> None:
    if format not in get_args(Format):
        raise CheckpointError(f"format {format}: expected one of {', '.join(get_args(Format))}")


def _named_config(config: ModelConfig | str | os.PathLike) -> ModelConfig:
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
