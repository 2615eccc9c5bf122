"""Orbax checkpoints of one tree of arrays, read one array at a time.

Orbax restores whole trees only. Here TensorStore, on which Orbax is built, reads each array alone.
Trees are written by orbax_writer.py.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffusiongemma.formats.checks import CheckpointError
from files.json_file import INDEX_BYTES, read_json_object
from files.regular import SPECIAL, special_among

if TYPE_CHECKING:
    import tensorstore as ts

MARK = "_METADATA"  # the file in every such folder

Key = tuple[str, ...]


def is_tree(folder: Path) -> bool:
    """Whether a folder is an Orbax checkpoint of one tree."""
    return (folder / MARK).is_file()


def open_tree(folder: Path) -> "dict[Key, ts.TensorStore | str]":
    """Opens every array of a tree and reads its header.

    TensorStore opens the arrays one by one, each in its own dtype. Orbax would open all at once,
    restore the whole tree for every leaf, and cast without a word.

    Returns:
      the keys of a leaf from the root -> the opened array; the name of the leaf's kind if it is no
      array.

    Raises:
      CheckpointError: the checkpoint is damaged.
    """
    import tensorstore as ts

    try:
        metadata = read_json_object(folder / MARK, INDEX_BYTES)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    try:
        leaves = {
            tuple(str(part["key"]) for part in entry["key_metadata"]): entry["value_metadata"]
            for entry in metadata["tree_metadata"].values()
        }
        kinds = {k: v["value_type"] for k, v in leaves.items() if not v.get("skip_deserialize")}
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MARK}: does not describe a tree: {error!r}") from None
    for key in leaves:
        if set(".".join(key).split("/")) & {"", ".", ".."} or "\0" in "".join(key):
            raise CheckpointError(f"{folder / MARK}: a leaf cannot have the name {'.'.join(key)!r}")
    if special := special_among(sorted(folder.rglob("*"))):
        raise CheckpointError(f"{special}: {SPECIAL}")
    root, spec = str(folder.absolute()), {"driver": "zarr", "recheck_cached_data": "open"}
    if metadata.get("use_zarr3"):
        spec["driver"] = "zarr3"
    if metadata.get("store_array_data_equal_to_fill_value"):
        spec["fill_missing_data_reads"] = False  # data that is missing was lost; it is not zero
    context = ts.Context()
    opened: dict[Key, ts.TensorStore | str] = {}
    for key, kind in kinds.items():
        if kind not in ("jax.Array", "np.ndarray"):
            opened[key] = kind
            continue
        store = {"driver": "file", "path": f"{root}/{'.'.join(key)}/"}
        if (folder / "manifest.ocdbt").exists():
            store = {"driver": "ocdbt", "base": f"file://{root}/", "path": f"{'.'.join(key)}/"}
        with one_line_errors(folder):
            array = ts.open(spec | {"kvstore": store}, context=context, read=True).result()
            # TensorStore makes room for a whole chunk, and ends the process if there is none.
            chunk = array.chunk_layout.read_chunk.shape or ()  # a scalar has none
            if any(
                size > max(of_array, 1) for size, of_array in zip(chunk, array.shape, strict=True)
            ):
                raise CheckpointError(
                    f"{folder}: damaged: {'.'.join(key)} has chunks of {list(chunk)}, larger than "
                    f"itself, {list(array.shape)}"
                )
            opened[key] = array
    return opened


def read_leaf(folder: Path, leaf: "ts.TensorStore") -> np.ndarray:
    """Reads an array, or a part of one, of open_tree. CheckpointError if it is damaged."""
    with one_line_errors(folder):
        return leaf.read().result()


def header(leaf: "ts.TensorStore | str") -> tuple[tuple[int, ...], np.dtype | str]:
    """(shape, dtype) of a leaf of open_tree. If it is no array, its kind stands for the dtype."""
    return ((), leaf) if isinstance(leaf, str) else (tuple(leaf.shape), leaf.dtype.numpy_dtype)


@contextlib.contextmanager
def one_line_errors(folder: Path) -> Iterator[None]:
    """Turns any error of Orbax or TensorStore into a CheckpointError: one line with the folder."""
    try:
        yield
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        text = text if len(text) <= 300 else f"{text[:300]} ..."
        raise CheckpointError(f"{folder}: damaged, or not Orbax's: {text}") from None
