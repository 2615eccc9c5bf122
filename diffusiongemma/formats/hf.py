"""The "hf" format: the released layout, config.json and *.safetensors.

A folder may have no tensor of the vision tower: then it is a model without a tower, whatever its
config.json says of one. Conversion from this format to itself copies the fields of config.json that
say nothing about the network.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.formats import foreign, tied
from diffusiongemma.formats.checks import CheckpointError, warn
from diffusiongemma.formats.config_file import (
    CONFIG,
    config_text,
    json_text,
    parse_config,
    read_content,
    read_json,
    text_dtypes,
    widest,
)
from diffusiongemma.formats.format import Format, WriteOptions
from diffusiongemma.formats.safetensors_file import (
    RawTensor,
    new_tensor,
    open_safetensors,
    read_headers,
    safetensors_in,
    write_safetensors,
)
from diffusiongemma.formats.tensor_tables import HF, file_tensors
from diffusiongemma.formats.untouched import Untouched
from diffusiongemma.formats.vision_tables import HF_PREFIXES
from diffusiongemma.formats.weights import Stored, Weights, layout
from files.json_file import INDEX_BYTES

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-{:05}-of-{:05}.safetensors"


def is_hf(folder: Path) -> bool:
    """Whether a folder has safetensors in it."""
    return (folder / INDEX).exists() or bool(safetensors_in(folder))


def open_hf(folder: Path) -> Stored:
    """Opens the checkpoint in a folder: reads and checks its headers.

    Tensors may be stored more than once if they are tied (tied.py).

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together. Or the weights are of another tool that is recognised (foreign.py).
    """
    files = _tensor_files(folder)
    content = read_content(folder / CONFIG)
    foreign.refuse_config(folder, content)
    headers = read_headers(folder, files)
    tower = any(h.name.startswith(HF_PREFIXES) for h in headers.tensors)
    config = parse_config(folder / CONFIG, content, tower)
    tensors, found = file_tensors(config, HF), headers.tensors
    copies = tied.known_copies(tensors)
    if content.get("tie_word_embeddings") is False:
        tied.check_all_copies(folder, (h.name for h in found), copies)
    found = tied.renamed(found, copies)
    copies = {h.name: copies[h.name] for h in found if h.name in copies}
    expected = tensors | {copy: tensors[name] for copy, name in copies.items()}
    try:
        stored = open_safetensors(folder, headers._replace(tensors=found), config, expected)
    except CheckpointError:
        foreign.refuse_headers(folder, headers)
        raise
    stored = tied.with_checked_copies(stored, copies)
    return dataclasses.replace(stored, untouched=Untouched(content))


def write_hf(folder: Path, weights: Weights, options: WriteOptions) -> None:
    """Writes config.json and the weights, with an index if they take several files.

    transformers 5.23.0 loads the folder too. The fields of `weights.untouched` are written too.

    Raises:
      CheckpointError: the format has no place for some weights, or cannot describe the model.
    """
    dtypes = layout(weights, file_tensors(weights.config, HF))
    if weights.untouched is None:
        config = config_text(weights, dtypes)
    else:
        config = json_text(_kept_config(weights, dtypes))
    tensors, shards = _new_tensors(weights), shard_files(weights, options.shard_bytes)
    for file, names in shards.items():
        write_safetensors(folder / file, {name: tensors[name] for name in names})
    if len(shards) > 1:
        owner = {name: file for file, names in shards.items() for name in names}
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(owner.items()))}
        (folder / INDEX).write_text(json_text(index))
    (folder / CONFIG).write_text(config)


def shard_files(weights: Weights, shard_bytes: int) -> dict[str, list[str]]:
    """Name of each file -> names of the tensors in it.

    A file has up to shard_bytes of tensors, or one tensor that is larger.
    """
    if shard_bytes < 1:
        raise CheckpointError(f"shard_bytes {shard_bytes}: a file must hold at least one byte")
    tensors = _new_tensors(weights)
    shards: list[list[str]] = [[]]
    used = 0

    def width(tensor: RawTensor) -> int:
        return tensor.nbytes // max(math.prod(tensor.shape), 1)

    # Wide dtypes come first, so that every tensor is aligned to its own size.
    for name in sorted(tensors, key=lambda name: (-width(tensors[name]), name)):
        size = tensors[name].nbytes
        if shards[-1] and used + size > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {SHARD.format(i, len(shards)): names for i, names in enumerate(shards, 1)}


def _new_tensors(weights: Weights) -> dict[str, RawTensor]:
    """Name -> tensor, for all that is written."""
    tensors = file_tensors(weights.config, HF)
    dtypes = layout(weights, tensors)
    return {name: new_tensor(tensor, dtypes[name], weights) for name, tensor in tensors.items()}


def _kept_config(weights: Weights, dtypes: Mapping[str, np.dtype]) -> dict[str, Any]:
    """The config.json that the weights came with, made true for what is written.

    Args:
      weights: the weights.
      dtypes: name of each tensor -> its dtype. The config names the same dtype as before if a
        tensor of the text model has it, and else the widest of them.
    """
    config = dict(weights.untouched.config)
    before = config.get("dtype", config.get("torch_dtype"))
    names = {dtype.name for dtype in text_dtypes(dtypes).values()}
    dtype = before if before in names else widest(dtypes)
    text = dict(config["text_config"])
    for part in (config, text):
        part.pop("torch_dtype", None)
    if "dtype" in text:
        text["dtype"] = dtype
    # Tied tensors are stored once now, even if they were stored more than once.
    return config | {
        "canvas_length": weights.config.canvas_size,
        "dtype": dtype,
        "text_config": text,
        "tie_word_embeddings": True,
    }


def _in_the_way(folder: Path, weights: Weights, options: WriteOptions) -> list[str]:
    """Names of safetensors files and of an index in the folder that would not be replaced."""
    ours = set(shard_files(weights, options.shard_bytes))
    if len(ours) > 1:
        ours.add(INDEX)
    found = [*safetensors_in(folder), *([INDEX] if (folder / INDEX).exists() else [])]
    return [name for name in found if name not in ours]


def _tensor_files(folder: Path) -> list[str]:
    """Names of the safetensors files that are read. The order is that of transformers 5.24.0.

    It is model.safetensors alone, else the files of the index. Without these two it is every file.
    """
    present, has_index = safetensors_in(folder), (folder / INDEX).exists()
    if (folder / WEIGHTS).is_file():
        names, unused = [WEIGHTS], [INDEX] if has_index else []
    elif has_index:
        names, unused = _indexed_files(folder), []
    else:
        return present
    unused += [name for name in present if name not in names]
    if unused:
        chosen = WEIGHTS if names == [WEIGHTS] else f"the files of {INDEX}"
        said = "are read, as transformers does, and these files are not"
        warn(f"{folder}: the weights in {chosen} {said}: {', '.join(unused)}")
    return names


def _indexed_files(folder: Path) -> list[str]:
    names = read_json(folder / INDEX, INDEX_BYTES).get("weight_map")
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
    needs_vision=True,
    in_the_way=_in_the_way,
)
