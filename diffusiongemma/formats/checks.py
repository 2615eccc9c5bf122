"""What can be wrong with a checkpoint: tensors that are not those expected, dtypes, values.

Faults are gathered first, by their kind, and raised together as one CheckpointError.
"""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from diffusiongemma.formats.tensor_tables import FileTensor
from files.printable import tell

# Each dtype that parameters may have -> the bits of its exponent. Inf and nan have all of them set.
EXPONENTS = {
    np.dtype(np.float32): 0x7F800000,
    np.dtype(np.float16): 0x7C00,
    np.dtype(ml_dtypes.bfloat16): 0x7F80,
}
LISTED = 20  # an error lists so many names for each kind of fault
PIECE = 1 << 21  # is_finite looks at so many elements at once


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message says all that is wrong with it."""


def raise_faults(where: Path | str, faults: Mapping[str, list[str]]) -> None:
    """Raises CheckpointError if there is any fault.

    Args:
      where: the folder or the model that has the faults.
      faults: kind of fault -> names of what has it. The error lists up to LISTED names of a kind.
    """
    lines = []
    for kind, names in faults.items():
        if names:
            more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
            lines.append(f"{kind} ({len(names)}): {', '.join(names[:LISTED])}{more}")
    if lines:
        raise CheckpointError("\n  ".join([f"{where}:", *lines]))


@functools.cache
def warn(text: str) -> None:
    """Says on stderr, once, that something in a checkpoint has no effect here."""
    tell(f"warning: {text}")


def download_fault(file: Path) -> str:
    """What a file is that a failed download left; "" if it may be the file that was wanted."""
    with file.open("rb") as opened:
        start = opened.read(64).lstrip().lower()
    if not start:
        return "is empty: download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs and not the file itself: run git lfs pull in its folder"
    if start.startswith((b"<!doctype", b"<html")):
        return "is a web page and not the file itself: download it again, after a login if it asks"
    return ""


def tensor_faults(
    expected: Mapping[str, FileTensor],
    found: Iterable[tuple[str, tuple[int, ...], np.dtype | str]],
) -> dict[str, list[str]]:
    """Compares the tensors found in a checkpoint with those expected.

    Args:
      expected: name -> tensor.
      found: (name, shape, dtype) of each tensor in the checkpoint. The dtype is a string if NumPy
        does not know it.

    Returns:
      the faults, for raise_faults.
    """
    faults: dict[str, list[str]] = {k: [] for k in ("missing", "extra", "twice", "shape", "dtype")}
    seen = set()
    for name, shape, dtype in found:
        if name not in expected:
            faults["extra"].append(name)
            continue
        if name in seen:
            faults["twice"].append(name)
        seen.add(name)
        if shape != expected[name].shape:
            faults["shape"].append(f"{name} is {list(shape)}, not {list(expected[name].shape)}")
        allowed = EXPONENTS if (only := expected[name].dtype) is None else (only,)
        if not isinstance(dtype, np.dtype) or dtype not in allowed:
            faults["dtype"].append(f"{name} is {dtype}")
    faults["missing"] = [name for name in expected if name not in seen]
    return faults


def known_dtype(dtype: DTypeLike) -> np.dtype:
    """The NumPy dtype of float32, float16 or bfloat16. CheckpointError for any other dtype."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in list(EXPONENTS):
        name = dtype if found is None else found.name
        known = ", ".join(d.name for d in EXPONENTS)
        raise CheckpointError(f"dtype {name}: expected one of {known}")
    return found


def is_finite(array: np.ndarray) -> bool:
    """Whether no element is inf or nan. The check takes a few MB of memory at most."""
    if array.dtype.kind in "iu":
        return True
    exponent = EXPONENTS[array.dtype]
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")
    return not any(
        np.any((bits[i : i + PIECE] & exponent) == exponent) for i in range(0, bits.size, PIECE)
    )
