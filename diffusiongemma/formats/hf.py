"""The "hf" format: the released layout, config.json and *.safetensors.

Only the text model is read: the tensors of the vision tower are skipped, and a checkpoint written
here has none.
"""

import math
from pathlib import Path

from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.config_file import (
    CONFIG,
    config_text,
    json_text,
    read_config,
    read_json,
)
from diffusiongemma.formats.format import Format, WriteOptions
from diffusiongemma.formats.safetensors_file import open_safetensors, write_safetensors
from diffusiongemma.formats.tensor_tables import HF, HF_SKIPPED_PREFIXES, file_tensors
from diffusiongemma.formats.weights import Stored, Weights, layout

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-{:05}-of-{:05}.safetensors"


def is_hf(folder: Path) -> bool:
    """Whether a folder has safetensors in it."""
    return (folder / INDEX).exists() or any(folder.glob("*.safetensors"))


def open_hf(folder: Path) -> Stored:
    """Opens the checkpoint in a folder: reads and checks its headers.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together.
    """
    files = _tensor_files(folder)
    config = read_config(folder / CONFIG)
    return open_safetensors(folder, files, config, file_tensors(config, HF), HF_SKIPPED_PREFIXES)


def write_hf(folder: Path, weights: Weights, options: WriteOptions) -> None:
    """Writes config.json and the weights, with an index if they take several files.

    transformers 5.23.0 loads the folder too.

    Raises:
      CheckpointError: the format has no place for some weights, or cannot describe the model.
    """
    tensors = file_tensors(weights.config, HF)
    dtypes = layout(weights, tensors)
    shards = shard_files(weights, options.shard_bytes)
    config = config_text(weights, dtypes)
    for file, names in shards.items():
        write_safetensors(folder / file, {name: tensors[name] for name in names}, dtypes, weights)
    if len(shards) > 1:
        owner = {name: file for file, names in shards.items() for name in names}
        size = sum(math.prod(tensors[name].shape) * dtypes[name].itemsize for name in owner)
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(owner.items()))}
        (folder / INDEX).write_text(json_text(index))
    (folder / CONFIG).write_text(config)


def shard_files(weights: Weights, shard_bytes: int) -> dict[str, list[str]]:
    """Name of each file -> names of the tensors in it.

    A file has up to shard_bytes of tensors, or one tensor that is larger.
    """
    if shard_bytes < 1:
        raise CheckpointError(f"shard_bytes {shard_bytes}: a file must hold at least one byte")
    tensors = file_tensors(weights.config, HF)
    dtypes = layout(weights, tensors)
    shards: list[list[str]] = [[]]
    used = 0
    # Wide dtypes come first, so that every tensor is aligned to its own size.
    for name in sorted(tensors, key=lambda name: (-dtypes[name].itemsize, name)):
        size = math.prod(tensors[name].shape) * dtypes[name].itemsize
        if shards[-1] and used + size > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {SHARD.format(i, len(shards)): names for i, names in enumerate(shards, 1)}


def _in_the_way(folder: Path, weights: Weights, options: WriteOptions) -> list[str]:
    """Names of safetensors files and of an index in the folder that would not be replaced."""
    ours = set(shard_files(weights, options.shard_bytes))
    if len(ours) > 1:
        ours.add(INDEX)
    return sorted(f.name for f in folder.glob("*.safetensors*") if f.name not in ours)


def _tensor_files(folder: Path) -> list[str]:
    """Names of the safetensors files: those of the index if there is one, else all of them."""
    if not (folder / INDEX).exists():
        return sorted(f.name for f in folder.glob("*.safetensors"))
    names = read_json(folder / INDEX).get("weight_map")
    names = list(names.values()) if isinstance(names, dict) else []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise CheckpointError(f"{folder / INDEX}: no weight_map of tensors and files beside it")
    return sorted(set(names))


FORMAT = Format(
    name="hf",
    description="config.json and *.safetensors, as transformers 5.23.0 saves and loads them",
    recognises=is_hf,
    open=lambda folder, config: open_hf(folder),
    write=write_hf,
    in_the_way=_in_the_way,
)
