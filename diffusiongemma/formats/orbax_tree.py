"""Orbax checkpoints of one tree of arrays, read and written a few tensors at a time.

Orbax itself takes and gives whole trees. Here a leaf is read alone, and a leaf to be saved is made
when its turn comes; the format is Orbax's own either way. Saving holds about twice the largest
tensor, for its compressed chunks wait to be written.
"""

import contextlib
import dataclasses
import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from diffusiongemma.formats.weights import CheckpointError

MARK = "_METADATA"  # the file in every such folder
BATCH_BYTES = 64 << 20  # leaves saved at once, unless one alone is larger
CHUNK_BYTES = 32 << 20  # of an array compressed at once
MARGIN_BYTES = 2 << 20  # metadata of every array

Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """An array to be saved: its shape and dtype, and what makes it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class _LeafHandler(ocp.type_handlers.NumpyHandler):
    """Saves leaves as NumPy arrays, a batch after the other."""

    def __init__(self):
        super().__init__(deepcopy_host_arrays=False)

    async def serialize(self, values, infos, args=None):
        start = 0
        while start < len(values):
            end, used = start + 1, values[start].nbytes
            while end < len(values) and used + values[end].nbytes <= BATCH_BYTES:
                used += values[end].nbytes
                end += 1
            batch = slice(start, end)
            arrays = [np.asarray(v.make()).astype(v.dtype, copy=False) for v in values[batch]]
            for future in await super().serialize(arrays, infos[batch], args[batch]):
                future.result()
            start = end
        return []


def is_tree(folder: Path) -> bool:
    """Whether a folder is an Orbax checkpoint of one tree."""
    return (folder / MARK).is_file()


def open_tree(folder: Path) -> dict[Key, ts.TensorStore | str]:
    """keys from the root -> each array, its header read; the name of its kind if it is no array.

    TensorStore reads them one by one, in their own dtype: Orbax would open all at once, restore the
    tree for every leaf anew, and cast without a word.

    Raises:
      CheckpointError: the checkpoint is damaged.
    """
    try:
        metadata = json.loads((folder / MARK).read_text())
        leaves = {
            tuple(str(part["key"]) for part in entry["key_metadata"]): entry["value_metadata"]
            for entry in metadata["tree_metadata"].values()
        }
        kinds = {k: v["value_type"] for k, v in leaves.items() if not v.get("skip_deserialize")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / MARK}: no description of a tree: {error!r}") from None
    root, spec = str(folder.absolute()), {"driver": "zarr", "recheck_cached_data": "open"}
    if metadata.get("use_zarr3"):
        spec["driver"] = "zarr3"
    if metadata.get("store_array_data_equal_to_fill_value"):
        spec["fill_missing_data_reads"] = False  # what is missing was lost, and is not zero
    context = ts.Context()
    opened: dict[Key, ts.TensorStore | str] = {}
    for key, kind in kinds.items():
        if kind not in ("jax.Array", "np.ndarray"):
            opened[key] = kind
            continue
        store = {"driver": "file", "path": f"{root}/{'.'.join(key)}/"}
        if (folder / "manifest.ocdbt").exists():
            store = {"driver": "ocdbt", "base": f"file://{root}/", "path": f"{'.'.join(key)}/"}
        with _named(folder):
            opened[key] = ts.open(spec | {"kvstore": store}, context=context, read=True).result()
    return opened


def read_leaf(folder: Path, leaf: ts.TensorStore) -> np.ndarray:
    """One array of open_tree; CheckpointError if it is damaged."""
    with _named(folder):
        return leaf.read().result()


def header(leaf: ts.TensorStore | str) -> tuple[tuple[int, ...], np.dtype | str]:
    """(shape, dtype) of a leaf of open_tree; its kind as the dtype if it is no array."""
    return ((), leaf) if isinstance(leaf, str) else (tuple(leaf.shape), leaf.dtype.numpy_dtype)


def write_tree(folder: Path, leaves: dict[Key, Leaf]) -> None:
    """Saves a tree of dicts as a new folder.

    Raises:
      CheckpointError: Orbax could not save it.
      OSError: the disk has no room for it.
    """
    # Looked at before, for Orbax meets a full disk in several threads, loudly.
    needed = sum(leaf.nbytes for leaf in leaves.values()) + MARGIN_BYTES
    if shutil.disk_usage(folder.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    tree: dict = {}
    for key, leaf in leaves.items():
        node = tree
        for k in key[:-1]:
            node = node.setdefault(k, {})
        node[key[-1]] = leaf
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.ArrayHandler()), (Leaf, _LeafHandler())
    )
    chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)

    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with _named(folder), ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree, save_args=chunks))


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Makes one line, with the folder, of TensorStore's errors, which are many and its own."""
    try:
        yield
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        text = text if len(text) <= 300 else f"{text[:300]} ..."
        raise CheckpointError(f"{folder}: damaged, or not Orbax's: {text}") from None
