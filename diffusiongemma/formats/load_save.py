"""Checkpoints of every format: loaded, saved and converted.

    hf      config.json and *.safetensors, as released        hf_checkpoint.py
    google  an Orbax checkpoint of Google's Linen tree        google_checkpoint.py
    orbax   this project's own, and a training run's latest   run_checkpoint.py
    peft    LoRA factors alone, as PEFT has them              peft_checkpoint.py

They are told apart in opening.py. The tables of names are in convert.py and lora_tables.py, and
what the formats share in tensors.py.
"""

import os
import shutil
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.adapter import Adapter, fingerprint
from diffusiongemma.formats.atomic_folder import staged
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.google import write_google
from diffusiongemma.formats.hf import SHARD_BYTES, save_hf, write_hf
from diffusiongemma.formats.orbax import write_orbax
from diffusiongemma.formats.peft import write_peft
from diffusiongemma.formats.quantized import quantized_weights
from diffusiongemma.formats.weights import (
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
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.transformer import DiffusionGemma

Format = Literal["hf", "google", "orbax"]  # of whole models
Target = Literal["hf", "google", "orbax", "peft"]
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
    base: str | os.PathLike | None = None,
) -> DiffusionGemma:
    """The model in a checkpoint of any format, or a training run's latest one.

    Of a LoRA checkpoint, the base's model with the factors, in float32, beside its weights.

    Args:
      path: a folder in the released layout (config.json and one or more *.safetensors, with or
        without an index), in Google's, or in this project's; the workdir of a run of train.main; or
        an adapter of PEFT.
      dtype: of the parameters: float32, bfloat16 or float16; None keeps each tensor's own, or what
        a LoRA run had.
      sharding: where parameters go; None: the default device.
      config: for Google's layout, which has none: a ModelConfig, a preset's name or a config.json;
        None: the config.json in the folder.
      base: of a LoRA checkpoint; None: the folder that it names.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together; if there is nothing of that kind, every tensor with an inf or a nan.
        Or the factors were trained on another base.
    """
    return load_opened(*open_checkpoint(path, config, base), dtype, sharding)


def load_opened(
    stored: Stored, adapter: Adapter | None, dtype=None, sharding: Sharding | None = None
) -> DiffusionGemma:
    """The model in a checkpoint that open_checkpoint has opened; see load_checkpoint."""
    model = load_model(stored, _dtype(dtype, adapter), sharding)
    if adapter is not None:
        adapter.attach(model, sharding)
    return model


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
    _check_choice("format", format, Format)
    weights = weights_of_model(model, None if dtype is None else known_dtype(dtype))
    _check_quantized(weights, format)
    if format == "hf":
        save_hf(folder, weights, shard_bytes)
        return
    with staged(folder) as temporary:
        _write(temporary, weights, format, shard_bytes)


def convert_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    format: Target,
    dtype=None,
    config: ModelConfig | str | os.PathLike | None = None,
    shard_bytes: int = SHARD_BYTES,
    flat: bool = False,
    base: str | os.PathLike | None = None,
    quantize: Precision | None = None,
) -> None:
    """Writes a checkpoint in another format, tensor by tensor: the model is never whole in memory.

    The tokenizer's files, the chat template and generation_config.json come along. LoRA factors are
    merged into their base, whose files of that kind then come along; with the format "peft" they
    are written alone.

    Args:
      source, config, base: as load_checkpoint's.
      target: a folder, not there yet or empty. It appears whole or not at all.
      format, shard_bytes: as save_checkpoint's, or "peft".
      dtype: of the tensors written; None keeps each one's own, to the bit. Not for "peft".
      flat: of "google": the form with the prefix.
      quantize: matrices, of "orbax": "int8", or "int4" for the experts' and int8 for the others
        (quantized_model.py). A source that is quantized stays as it is.

    Raises:
      CheckpointError: as load_checkpoint and save_checkpoint; no factors for "peft"; or weights to
        be quantized that are quantized already, or that have factors beside them.
    """
    folder, target = Path(source), Path(target)
    _check_choice("format", format, Target)
    if quantize is not None:
        _check_choice("quantize", quantize, Precision)
        if format != "orbax":
            raise CheckpointError(f"quantize: only orbax holds quantized weights, not {format}")
    with staged(target) as temporary:
        stored, adapter = open_checkpoint(folder, config, base)
        homes = [folder]
        if format == "peft":
            if adapter is None:
                raise CheckpointError(f"{folder}: no LoRA factors to be saved alone")
            if dtype is not None:
                raise CheckpointError("dtype: not for peft, whose factors keep theirs")
            weights = adapter.weights
            write_peft(temporary, adapter, target)
        else:
            weights = weights_of_stored(stored, _dtype(dtype, adapter))
            if adapter is not None and quantize is not None:
                raise CheckpointError(f"{folder}: LoRA factors: merge them first, then quantize")
            if adapter is not None:
                weights, homes = adapter.merge(weights), [adapter.base, folder]
            if quantize is not None:
                if weights.quantized:
                    raise CheckpointError(f"{folder}: quantized already")
                weights = quantized_weights(weights, quantize, fingerprint(stored))
            _check_quantized(weights, format)
            _write(temporary, weights, format, shard_bytes, flat)
        report(folder, {"inf or nan": weights.broken})
        for file in (home / name for home in homes for name in COMPANIONS):
            if file.is_file():
                shutil.copyfile(file, temporary / file.name)


def _write(
    folder: Path, weights: Weights, format: Format, shard_bytes: int, flat: bool = False
) -> None:
    if format == "hf":
        write_hf(folder, weights, shard_bytes)
    elif format == "google":
        write_google(folder, weights, flat=flat)
    else:
        write_orbax(folder, weights)


def _check_quantized(weights: Weights, format: str) -> None:
    if weights.quantized and format != "orbax":
        raise CheckpointError(
            f"{weights.source}: quantized, which {format} cannot hold: write orbax, or take the "
            "weights that it was made from"
        )


def _dtype(dtype, adapter: Adapter | None) -> np.dtype | None:
    if dtype is None:
        return None if adapter is None else adapter.dtype
    return known_dtype(dtype)


def _check_choice(name: str, value: str, known) -> None:
    if value not in get_args(known):
        raise CheckpointError(f"{name} {value}: expected one of {', '.join(get_args(known))}")
