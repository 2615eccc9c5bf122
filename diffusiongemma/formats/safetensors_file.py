"""Files of safetensors: their headers read and checked, one file read and one file written.

A tensor is mapped into memory when it is read, each by a mapping of its own. So a tensor that has
been used does not stay resident. Only the functions that need the safetensors library import it.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.checks import (
    EXPONENTS,
    download_fault,
    raise_faults,
    tensor_faults,
)
from diffusiongemma.formats.tensor_tables import FileTensor
from diffusiongemma.formats.weights import Part, Stored, Weights, assembled
from files.json_text import read_json

NAMES = dict(zip(EXPONENTS, ("F32", "F16", "BF16"), strict=True))  # dtype -> safetensors' name
DTYPES = {name: dtype for dtype, name in NAMES.items()}
SLICE_BYTES = 64 << 20  # bytes written at once: a transposed tensor is copied slice by slice
MOST_HEADER = 16 << 20  # bytes of the largest header that is read; that of the 26B has 0.2 MB


class RawTensor(NamedTuple):
    """A tensor on its way into a safetensors file.

    Attributes:
      dtype: safetensors' name of the dtype.
      shape: the tensor's shape.
      nbytes: the tensor's size in bytes.
      write: writes the tensor's bytes to a file, a part at a time.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    write: Callable[[BinaryIO], None]


class TensorHeader(NamedTuple):
    """Where one tensor is.

    Attributes:
      name: the tensor's name.
      file: the name of the file that holds it.
      shape: the tensor's shape.
      dtype: the tensor's dtype; safetensors' name for it if it is none of ours.
      offset: the tensor's first byte in the file.
      nbytes: the tensor's size in bytes.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    dtype: np.dtype | str
    offset: int
    nbytes: int


class Headers(NamedTuple):
    """The headers of the tensors in some safetensors files.

    Attributes:
      tensors: one header for each tensor, file by file, in the order of the file.
      unreadable: what is wrong with the files that cannot be read.
      metadata: the entries in the files' own metadata.
    """

    tensors: list[TensorHeader]
    unreadable: list[str]
    metadata: dict[str, str]


def open_safetensors(
    folder: Path, headers: Headers, config: ModelConfig, expected: Mapping[str, FileTensor]
) -> Stored:
    """Opens the expected tensors in safetensors files: checks their headers.

    Args:
      folder: where the files are.
      headers: the headers of all tensors that are to be read.
      config: the shape of the model.
      expected: name -> tensor. Any other tensor in the headers is a fault.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together.
    """
    faults = tensor_faults(expected, ((h.name, h.shape, h.dtype) for h in headers.tensors))
    if headers.unreadable:  # the tensors of those files are not worth listing too
        faults["missing"] = []
    files = sorted({h.file for h in headers.tensors})
    if len(files) > 1 and any(faults.values()):
        faults["files that were read"] = files
    raise_faults(folder, {"cannot be read": headers.unreadable} | faults)
    places = {h.name: (folder / h.file, h.offset) for h in headers.tensors}
    dtypes = {h.name: h.dtype for h in headers.tensors}

    def read(name: str, part: Part = ...) -> np.ndarray:
        file, offset = places[name]
        shape, dtype = expected[name].shape, dtypes[name]
        return np.memmap(file, dtype, "r", offset, shape).view(np.ndarray)[part]

    return Stored(folder, config, {name: expected[name] for name in places}, dtypes, read)


def new_tensor(tensor: FileTensor, dtype: np.dtype, weights: Weights) -> RawTensor:
    """A tensor that is made of weights, in a dtype, when it is written."""

    def write(target: BinaryIO) -> None:
        _write_array(target, assembled(tensor, weights), dtype)

    nbytes = math.prod(tensor.shape) * dtype.itemsize
    return RawTensor(NAMES[dtype], tensor.shape, nbytes, write)


def write_safetensors(
    file: Path, tensors: Mapping[str, RawTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes one safetensors file. Each tensor is read or made when its turn comes.

    Args:
      file: the file to write.
      tensors: name -> tensor, in the order of the file.
      metadata: entries for the file's header.
    """
    with file.open("wb") as opened:
        opened.write(_header(tensors, metadata or {}))
        for tensor in tensors.values():
            tensor.write(opened)
        opened.flush()
        os.fsync(opened.fileno())


def safetensors_in(folder: Path) -> list[str]:
    """Names of the safetensors files in a folder, without hidden ones, as macOS makes ("._x")."""
    files = folder.glob("*.safetensors")
    return sorted(file.name for file in files if not file.name.startswith("."))


def read_headers(folder: Path, files: list[str]) -> Headers:
    """Reads the headers of safetensors files.

    Args:
      folder: where the files are.
      files: their names.
    """
    from safetensors import SafetensorError, safe_open

    headers, unreadable, metadata = [], [], {}
    for file in files:
        try:
            # safe_open checks that the tensors follow each other without gaps and fill the file,
            # and that no size is beyond 64 bits. It does not give the offsets of the tensors.
            with (folder / file).open("rb") as opened:
                size = int.from_bytes(opened.read(8), "little")
                if MOST_HEADER < size < os.fstat(opened.fileno()).st_size:
                    unreadable.append(f"{file} has a header of {size:,} bytes, too many to read")
                    continue
                with safe_open(folder / file, framework="numpy"):
                    entries = read_json(opened.read(size).decode())
        except FileNotFoundError:
            unreadable.append(f"{file} is not there")
            continue
        except (OSError, SafetensorError) as error:
            fault = download_fault(folder / file) if isinstance(error, SafetensorError) else ""
            unreadable.append(f"{file} {fault or f'is cut short or damaged ({error})'}")
            continue
        except ValueError as error:
            unreadable.append(f"{file} has a damaged header ({error})")
            continue
        metadata |= entries.pop("__metadata__", {})
        for name, entry in sorted(entries.items(), key=lambda e: e[1]["data_offsets"]):
            start, end = entry["data_offsets"]
            dtype = DTYPES.get(entry["dtype"], entry["dtype"])
            place = (8 + size + start, end - start)
            headers.append(TensorHeader(name, file, tuple(entry["shape"]), dtype, *place))
    return Headers(headers, unreadable, metadata)


def _header(tensors: Mapping[str, RawTensor], metadata: Mapping[str, str]) -> bytes:
    """The start of a safetensors file whose tensors follow in this order."""
    entries: dict = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        entries[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        }
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _write_array(file: BinaryIO, array: np.ndarray, dtype: np.dtype) -> None:
    array = np.atleast_1d(array)
    rows = max(1, SLICE_BYTES // max(1, array[0].size * dtype.itemsize))
    for i in range(0, len(array), rows):
        part = np.ascontiguousarray(array[i : i + rows].astype(dtype, copy=False))
        file.write(part.reshape(-1).view(np.uint8).data)
