"""Checkpoints in the released layout: config.json and *.safetensors, read and written.

Tensors are mapped into memory one at a time, each by a mapping of its own, so that what was read
does not stay resident. Only the text model is read; the vision tower's tensors are left aside, and
a checkpoint written here has none.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.atomic_folder import staged
from diffusiongemma.formats.hf_config import config_from_hf, config_to_hf
from diffusiongemma.formats.tensor_tables import HF, HF_SKIPPED_PREFIXES, FileTensor, file_tensors
from diffusiongemma.formats.weights import (
    EXPONENTS,
    CheckpointError,
    Stored,
    Weights,
    assembled,
    layout,
    report,
    tensor_faults,
)

NAMES = dict(zip(EXPONENTS, ("F32", "F16", "BF16"), strict=True))  # dtype -> safetensors' name
DTYPES = {name: dtype for dtype, name in NAMES.items()}
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
SHARD = "model-{:05}-of-{:05}.safetensors"
SHARD_BYTES = 5_000_000_000
SLICE_BYTES = 64 << 20  # written at once: a transposed tensor is copied piece by piece
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def is_hf(folder: Path) -> bool:
    """Whether a folder has safetensors in it."""
    return (folder / INDEX).exists() or any(folder.glob("*.safetensors"))


def pickles(folder: Path) -> list[str]:
    """Names of the files that are weights in pickle form, by their endings."""
    return sorted(f.name for f in folder.iterdir() if f.suffix in PICKLES)


def open_hf(folder: Path) -> Stored:
    """The checkpoint in a folder, its headers read and checked.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together.
    """
    files = _tensor_files(folder)
    config = read_config(folder / CONFIG)
    return open_files(folder, files, config, file_tensors(config, HF), HF_SKIPPED_PREFIXES)


def open_files(
    folder: Path,
    files: list[str],
    config: ModelConfig,
    expected: Mapping[str, FileTensor],
    skipped: tuple[str, ...],
) -> Stored:
    """The expected tensors in safetensors files, their headers read and checked.

    Args:
      folder, files: the files, and where they are.
      config: the model's shape.
      expected: name -> tensor; what else the files hold is a fault.
      skipped: what names may begin with that are none of ours.

    Raises:
      CheckpointError: all that is wrong, together.
    """
    headers, unreadable = _read_headers(folder, files, skipped)
    faults = tensor_faults(expected, ((name, shape, dtype) for name, _, shape, dtype, _ in headers))
    if unreadable:  # what those files held would only add noise
        faults["missing"] = []
    report(folder, {"cannot be read": unreadable} | faults)
    places = {name: (folder / file, offset) for name, file, _, _, offset in headers}
    dtypes = {name: dtype for name, _, _, dtype, _ in headers}

    def read(name: str, at=...) -> np.ndarray:
        file, offset = places[name]
        shape, dtype = expected[name].shape, dtypes[name]
        return np.memmap(file, dtype, "r", offset, shape).view(np.ndarray)[at]

    return Stored(folder, config, {name: expected[name] for name in places}, dtypes, read)


def save_hf(folder: Path, weights: Weights, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes a folder that open_hf and transformers 5.23.0 read, or leaves it as it was.

    Raises:
      CheckpointError: weights that the format has no place for, a folder with other weights in it,
        or a disk that is full or read-only.
    """
    ours = set(shard_files(weights, shard_bytes))
    if len(ours) > 1:
        ours.add(INDEX)
    others = sorted(f.name for f in folder.glob("*.safetensors*") if f.name not in ours)
    report(folder, {"other weights in the way": others})
    with staged(folder, replace=True) as temporary:
        write_hf(temporary, weights, shard_bytes)


def write_hf(folder: Path, weights: Weights, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes config.json and the weights, with an index if it takes several files."""
    tensors = file_tensors(weights.config, HF)
    dtypes = layout(weights, tensors)
    shards = shard_files(weights, shard_bytes)
    widest = max(dtypes.values(), key=lambda dtype: dtype.itemsize)
    config = config_json(weights, widest)
    for file, names in shards.items():
        write_file(folder / file, {name: tensors[name] for name in names}, dtypes, weights)
    if len(shards) > 1:
        owner = {name: file for file, names in shards.items() for name in names}
        size = sum(math.prod(tensors[name].shape) * dtypes[name].itemsize for name in owner)
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(owner.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (folder / CONFIG).write_text(config)


def write_file(
    file: Path,
    tensors: Mapping[str, FileTensor],
    dtypes: Mapping[str, np.dtype],
    weights: Weights,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes one safetensors file, its tensors made from the weights one after another."""
    header = {name: (tensor.shape, dtypes[name]) for name, tensor in tensors.items()}
    with file.open("wb") as opened:
        opened.write(_header(header, metadata or {}))
        for name, tensor in tensors.items():
            _write_array(opened, assembled(tensor, weights), dtypes[name])
        opened.flush()
        os.fsync(opened.fileno())


def shard_files(weights: Weights, shard_bytes: int) -> dict[str, list[str]]:
    """file -> the tensors in it: up to shard_bytes a file, or one tensor that is larger."""
    if shard_bytes < 1:
        raise CheckpointError(f"a shard must hold at least a byte, not {shard_bytes}")
    tensors = file_tensors(weights.config, HF)
    dtypes = layout(weights, tensors)
    shards: list[list[str]] = [[]]
    used = 0
    # Wide dtypes first, so that every tensor is aligned to its own size.
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


def read_config(file: Path) -> ModelConfig:
    """The model of a config.json; CheckpointError if it is not there, or describes another."""
    if not file.exists():
        raise CheckpointError(f"{file.parent}: no {file.name}")
    try:
        return config_from_hf(read_json(file))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None


def config_json(weights: Weights, dtype: np.dtype) -> str:
    """The text of the config.json for these weights."""
    try:
        config = config_to_hf(weights.config)
    except ValueError as error:
        raise CheckpointError(f"{weights.source}: {error}") from None
    return json.dumps(config | {"dtype": dtype.name}, indent=2) + "\n"


def read_json(file: Path) -> dict:
    """A file's JSON object; CheckpointError if it holds anything else."""
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: not a JSON object")
    return content


def _tensor_files(folder: Path) -> list[str]:
    """Names of the safetensors files; those of the index where there is one."""
    if not (folder / INDEX).exists():
        return sorted(f.name for f in folder.glob("*.safetensors"))
    names = read_json(folder / INDEX).get("weight_map")
    names = list(names.values()) if isinstance(names, dict) else []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise CheckpointError(f"{folder / INDEX}: no weight_map of tensors and files beside it")
    return sorted(set(names))


def _read_headers(
    folder: Path, files: list[str], skipped: tuple[str, ...]
) -> tuple[list[tuple], list[str]]:
    """(name, file, shape, dtype, offset) of every tensor not skipped, and what is unreadable."""
    headers, unreadable = [], []
    for file in files:
        try:
            # Opened once for its check of the header, which it does not give the offsets of.
            with safe_open(folder / file, framework="numpy"), (folder / file).open("rb") as opened:
                size = int.from_bytes(opened.read(8), "little")
                entries = json.loads(opened.read(size))
        except FileNotFoundError:
            unreadable.append(f"{file} is not there")
            continue
        except (OSError, SafetensorError) as error:
            unreadable.append(f"{file} is cut short or damaged ({error})")
            continue
        entries.pop("__metadata__", None)
        for name, entry in sorted(entries.items(), key=lambda e: e[1]["data_offsets"]):
            if not name.startswith(skipped):
                dtype = DTYPES.get(entry["dtype"], entry["dtype"])
                offset = 8 + size + entry["data_offsets"][0]
                headers.append((name, file, tuple(entry["shape"]), dtype, offset))
    return headers, unreadable


def _header(
    tensors: dict[str, tuple[tuple[int, ...], np.dtype]], metadata: Mapping[str, str]
) -> bytes:
    """The start of a safetensors file whose tensors follow in this order."""
    entries: dict = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name, (shape, dtype) in tensors.items():
        end = offset + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _write_array(file: BinaryIO, array: np.ndarray, dtype: np.dtype) -> None:
    rows = max(1, SLICE_BYTES // max(1, array[0].size * dtype.itemsize))
    for i in range(0, len(array), rows):
        part = np.ascontiguousarray(array[i : i + rows].astype(dtype, copy=False))
        file.write(part.reshape(-1).view(np.uint8).data)
