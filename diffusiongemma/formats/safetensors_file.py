"""Files of safetensors: their headers read and checked, one file read and one file written.

A tensor is mapped into memory when it is read, each by a mapping of its own. So a tensor that has
been used does not stay resident. Only the functions that need the safetensors library import it.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.checks import EXPONENTS, raise_faults, tensor_faults
from diffusiongemma.formats.tensor_tables import FileTensor
from diffusiongemma.formats.weights import Part, Stored, Weights, assembled

NAMES = dict(zip(EXPONENTS, ("F32", "F16", "BF16"), strict=True))  # dtype -> safetensors' name
DTYPES = {name: dtype for dtype, name in NAMES.items()}
SLICE_BYTES = 64 << 20  # bytes written at once: a transposed tensor is copied slice by slice


class TensorHeader(NamedTuple):
    """Where one tensor is.

    Attributes:
      name: the tensor's name.
      file: the name of the file that holds it.
      shape: the tensor's shape.
      dtype: the tensor's dtype; safetensors' name for it if it is none of ours.
      offset: the tensor's first byte in the file.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    dtype: np.dtype | str
    offset: int


def open_safetensors(
    folder: Path,
    files: list[str],
    config: ModelConfig,
    expected: Mapping[str, FileTensor],
    skipped: tuple[str, ...],
) -> Stored:
    """Opens the expected tensors in safetensors files: reads and checks the headers only.

    Args:
      folder: where the files are.
      files: their names.
      config: the shape of the model.
      expected: name -> tensor. Any other tensor in the files is a fault, unless it is skipped.
      skipped: beginnings of the names of tensors that are ignored.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together.
    """
    headers, unreadable = _read_headers(folder, files, skipped)
    faults = tensor_faults(expected, ((h.name, h.shape, h.dtype) for h in headers))
    if unreadable:  # the tensors of those files are not worth listing too
        faults["missing"] = []
    raise_faults(folder, {"cannot be read": unreadable} | faults)
    places = {h.name: (folder / h.file, h.offset) for h in headers}
    dtypes = {h.name: h.dtype for h in headers}

    def read(name: str, part: Part = ...) -> np.ndarray:
        file, offset = places[name]
        shape, dtype = expected[name].shape, dtypes[name]
        return np.memmap(file, dtype, "r", offset, shape).view(np.ndarray)[part]

    return Stored(folder, config, {name: expected[name] for name in places}, dtypes, read)


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file; nothing if the file cannot be read.

    open_safetensors says what is wrong with such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def write_safetensors(
    file: Path,
    tensors: Mapping[str, FileTensor],
    dtypes: Mapping[str, np.dtype],
    weights: Weights,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes one safetensors file. Each tensor is made of the weights when its turn comes.

    Args:
      file: the file to write.
      tensors: name -> tensor, in the order of the file.
      dtypes: name -> dtype to be written.
      weights: the weights that the tensors are made of.
      metadata: entries for the file's header.
    """
    header = {name: (tensor.shape, dtypes[name]) for name, tensor in tensors.items()}
    with file.open("wb") as opened:
        opened.write(_header(header, metadata or {}))
        for name, tensor in tensors.items():
            _write_array(opened, assembled(tensor, weights), dtypes[name])
        opened.flush()
        os.fsync(opened.fileno())


def _read_headers(
    folder: Path, files: list[str], skipped: tuple[str, ...]
) -> tuple[list[TensorHeader], list[str]]:
    """The header of every tensor that is not skipped, and what cannot be read."""
    from safetensors import SafetensorError, safe_open

    headers, unreadable = [], []
    for file in files:
        try:
            # safe_open checks the header but does not give the offsets of the tensors.
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
                headers.append(TensorHeader(name, file, tuple(entry["shape"]), dtype, offset))
    return headers, unreadable


def _header(
    tensors: Mapping[str, tuple[tuple[int, ...], np.dtype]], metadata: Mapping[str, str]
) -> bytes:
    """The start of a safetensors file whose tensors (name -> shape, dtype) follow in this order."""
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
