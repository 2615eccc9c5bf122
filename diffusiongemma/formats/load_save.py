"""Loads, saves and converts checkpoints of every format.

The formats are listed in detect.FORMATS; docs/FORMATS.md describes each of them.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import DTypeLike

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.adapter import Adapter, fingerprint
from diffusiongemma.formats.atomic_folder import staged
from diffusiongemma.formats.checks import CheckpointError, known_dtype, raise_faults, warn
from diffusiongemma.formats.companions import check_companions, copy_companions
from diffusiongemma.formats.detect import (
    format_named,
    open_checkpoint,
    quantized_formats,
    whole_formats,
    written_formats,
)
from diffusiongemma.formats.format import SHARD_BYTES, Format, FormatName, WriteOptions
from diffusiongemma.formats.quantized import quantized_weights
from diffusiongemma.formats.untouched import Untouched
from diffusiongemma.formats.weights import (
    Sharding,
    Stored,
    Weights,
    load_model,
    weights_of_model,
    weights_of_stored,
)
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.parameters import in_tower
from diffusiongemma.transformer import DiffusionGemma


def load_checkpoint(
    path: str | os.PathLike,
    dtype: DTypeLike | None = None,
    sharding: Sharding | None = None,
    config: ModelConfig | str | os.PathLike | None = None,
    base: str | os.PathLike | None = None,
) -> DiffusionGemma:
    """Loads the model in a checkpoint of any format.

    For a checkpoint of LoRA factors this is the model of their base, with the factors in float32
    beside its weights.

    Args:
      path: the folder of the checkpoint. The workdir of a training run stands for its latest
        checkpoint.
      dtype: dtype of the parameters: float32, bfloat16 or float16. None keeps the dtype of each
        tensor; for a LoRA run's checkpoint it is the dtype of the run.
      sharding: where the parameters go; None: to the default device.
      config: for a checkpoint in Google's layout, which may lack a config: a ModelConfig, the name
        of a preset, or a config.json. None: the config.json in the folder.
      base: the folder of the base of LoRA factors; None: the folder that they name.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together; if there is nothing of that kind, every tensor with an inf or a nan. Or
        LoRA factors were trained on another base.
    """
    return load_opened(*open_checkpoint(path, config, base), dtype, sharding)


def load_opened(
    stored: Stored,
    adapter: Adapter | None,
    dtype: DTypeLike | None = None,
    sharding: Sharding | None = None,
) -> DiffusionGemma:
    """Loads the model in a checkpoint that open_checkpoint has opened; see load_checkpoint."""
    model = load_model(stored, _dtype(dtype, adapter), sharding)
    if adapter is not None:
        adapter.attach(model, sharding)
    return model


def save_checkpoint(
    model: DiffusionGemma,
    path: str | os.PathLike,
    dtype: DTypeLike | None = None,
    format: FormatName = "hf",
    shard_bytes: int = SHARD_BYTES,
    untouched: Untouched | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Writes a folder that load_checkpoint loads; transformers 5.23.0 loads one in "hf" too.

    Files get their names when they are complete; after an error nothing half-written is left. A
    model that is replaced is there until the new one is (atomic_folder.py). The tokenizer and
    generation_config.json do not belong to the model and are not written.

    Args:
      model: a model without LoRA factors: merge them first.
      path: the folder, made if it is not there. Only "hf" writes into a folder with files in it.
      dtype: dtype of the tensors written; None keeps the dtype of each parameter.
      format: a format of whole models: "hf", "google" or "orbax".
      shard_bytes: for "hf": the most bytes of weights in one file.
      untouched: for "hf": the config.json of the checkpoint that the model was loaded from
        (`Stored.untouched`). Its other fields are kept. None: a config.json of the model alone.
      beside: writes further files into a folder; they appear with the weights.

    Raises:
      CheckpointError: the format has no place for some parameters, the dtype is unknown, the folder
        has other weights in it, or the disk is full or read-only.
    """
    folder, chosen = Path(path), format_named(format, whole_formats())
    weights = weights_of_model(model, None if dtype is None else known_dtype(dtype))
    weights = dataclasses.replace(weights, untouched=untouched)
    _check_quantized(weights, chosen)
    options = WriteOptions(shard_bytes)
    replace = chosen.in_the_way is not None
    if replace:
        others = chosen.in_the_way(folder, weights, options)
        raise_faults(folder, {"other weights in the way": others})
    with staged(folder, replace=replace) as temporary:
        chosen.write(temporary, weights, options)
        if beside is not None:
            beside(temporary)


def convert_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    format: FormatName,
    *,
    dtype: DTypeLike | None = None,
    config: ModelConfig | str | os.PathLike | None = None,
    shard_bytes: int = SHARD_BYTES,
    flat: bool = False,
    base: str | os.PathLike | None = None,
    quantize: Precision | None = None,
    vision: str | os.PathLike | None = None,
) -> None:
    """Writes a checkpoint in another format, tensor by tensor: the model is never whole in memory.

    The source's small files are copied (companions.py). LoRA factors are merged into their base,
    and the base's small files are copied too, but not its README.md; "peft" writes the factors
    alone. From "hf" to "hf" the fields of config.json are kept.

    Args:
      source: as load_checkpoint's path.
      target: a folder that is not there yet, or empty. It appears whole or not at all.
      format: one of detect.FORMATS.
      dtype: dtype of the tensors written; None keeps each tensor, to the bit. Not for "peft".
      config: as load_checkpoint's.
      shard_bytes: for "hf": the most bytes of weights in one file.
      flat: for "google": whether to write the flat form, with the prefix.
      base: as load_checkpoint's.
      quantize: for "orbax": quantizes the matrices. "int8" has all of them in int8, "int4" has the
        experts in int4 and the others in int8 (quantized_model.py). None: a quantized source stays
        quantized, and another one stays as it is.
      vision: a folder with the same text model, whose vision tower the result gets; and if it is in
        "hf", its config.json. None: those of the source, or of the base of LoRA factors, if they
        have any. Not for "peft".

    Raises:
      CheckpointError: as load_checkpoint and save_checkpoint; "peft" is asked for and there are no
        factors; weights are to be quantized that are quantized already, or have factors; the folder
        for `vision` has no vision tower, or has another text model; or a file of companions.KNOWN
        is a link that leads elsewhere, or is not what its name says.
    """
    folder, target = Path(source), Path(target)
    chosen = format_named(format, written_formats())
    if quantize is not None:
        _check_quantize(quantize, chosen)
    if vision is not None and chosen.write is None:
        raise CheckpointError(f"vision: the format {format} holds no vision tower: leave it out")
    with staged(target) as temporary:
        stored, adapter = open_checkpoint(folder, config, base)
        if chosen.write_factors is not None:
            if adapter is None:
                raise CheckpointError(
                    f"{folder}: holds no LoRA factors, and {format} holds nothing else: choose "
                    "another format"
                )
            if dtype is not None:
                raise CheckpointError(f"dtype: {format} keeps the factors' own: leave it out")
            weights, homes = adapter.weights, [folder]
            check_companions(folder)
            chosen.write_factors(temporary, adapter, target)
        else:
            weights = _whole_weights(folder, stored, adapter, dtype, quantize)
            homes = [folder] if adapter is None else [adapter.base, folder]
            for home in homes:
                check_companions(home)
            _check_quantized(weights, chosen)
            if vision is not None:
                weights = _with_vision(weights, Path(vision), _dtype(dtype, None))
            chosen.write(temporary, weights, WriteOptions(shard_bytes, flat))
        raise_faults(folder, {"inf or nan": weights.broken})
        written = {file.name for file in temporary.iterdir()}
        for home in homes:  # a later one replaces files of an earlier one
            copy_companions(home, temporary, card=home == folder, never=written)
    if chosen.write is not None:
        _warn_of_vision(stored, weights, chosen, target)


def _whole_weights(
    folder: Path,
    stored: Stored,
    adapter: Adapter | None,
    dtype: DTypeLike | None,
    quantize: Precision | None,
) -> Weights:
    """The weights of a whole model to be written: cast, merged with LoRA factors, or quantized."""
    weights = weights_of_stored(stored, _dtype(dtype, adapter))
    if adapter is not None and quantize is not None:
        raise CheckpointError(
            f"{folder}: holds LoRA factors: merge them first, then quantize the result"
        )
    if adapter is not None:
        return adapter.merge(weights)
    if quantize is None:
        return weights
    if weights.quantized:
        raise CheckpointError(f"{folder}: its weights are quantized already")
    return quantized_weights(weights, quantize, fingerprint(stored))


def _with_vision(weights: Weights, folder: Path, dtype: np.dtype | None) -> Weights:
    """Weights that get the vision tower of a folder, in a dtype, and the folder's config.json."""
    stored, _ = open_checkpoint(folder)
    if stored.config.vision is None:
        raise CheckpointError(f"{folder}: has no vision tower: name the released folder (--vision)")
    config = dataclasses.replace(weights.config, vision=stored.config.vision)
    if dataclasses.replace(stored.config, canvas_size=config.canvas_size) != config:
        raise CheckpointError(
            f"{folder}: its text model is not that of {weights.source}: name the folder that the "
            "training began with (--vision)"
        )
    tower = weights_of_stored(stored, dtype)
    dtypes = {path: d for path, d in weights.dtypes.items() if not in_tower(path)}
    dtypes |= {path: d for path, d in tower.dtypes.items() if in_tower(path)}

    def read(path: str) -> np.ndarray:
        if not in_tower(path):
            return weights.read(path)
        value = tower.read(path)
        weights.broken.extend(name for name in tower.broken if name not in weights.broken)
        return value

    return dataclasses.replace(
        weights, config=config, dtypes=dtypes, read=read, untouched=stored.untouched
    )


def _warn_of_vision(stored: Stored, weights: Weights, format: Format, target: Path) -> None:
    """Says that a conversion has no vision tower to write, though other programs need one."""
    if format.needs_vision and weights.config.vision is None and weights.untouched is None:
        warn(
            f"{target}: is written without a vision tower, because {stored.folder} has none: "
            "--vision=DIR adds the tower of another folder, for example of the release"
        )


def _check_quantize(precision: Precision, format: Format) -> None:
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise CheckpointError(f"quantize {precision}: expected one of {known}")
    if not format.holds_quantized:
        able = " or ".join(quantized_formats())
        raise CheckpointError(f"quantize: only {able} holds quantized weights, not {format.name}")


def _check_quantized(weights: Weights, format: Format) -> None:
    if weights.quantized and not format.holds_quantized:
        raise CheckpointError(
            f"{weights.source}: its weights are quantized, and {format.name} cannot hold such "
            f"weights: write {' or '.join(quantized_formats())}, or convert the checkpoint that "
            "was quantized"
        )


def _dtype(dtype: DTypeLike | None, adapter: Adapter | None) -> np.dtype | None:
    if dtype is None:
        return None if adapter is None else adapter.dtype
    return known_dtype(dtype)
