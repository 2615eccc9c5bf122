"""Orbax checkpoints of one tree of arrays, read and written a few tensors at a time.

Orbax itself takes and gives whole trees. Here a leaf is restored alone, and a leaf to be saved is
made when its turn comes; the format is Orbax's own either way.
"""

import dataclasses
import errno
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from diffusiongemma.tensors import CheckpointError

MARK = "_METADATA"  # the file in every such folder
BATCH_BYTES = 256 << 20  # leaves saved at once, unless one alone is larger
CHUNK_BYTES = 64 << 20  # of an array compressed at once
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


def read_headers(folder: Path) -> dict[Key, tuple[tuple[int, ...], np.dtype | str]]:
    """keys from the root -> (shape, dtype) of every leaf; dtype "str", say, if it is no array.

    Raises:
      CheckpointError: the checkpoint is damaged.
    """

    def look():
        tree = ocp.PyTreeCheckpointHandler().metadata(epath.Path(folder.absolute()))
        return jax.tree_util.tree_flatten_with_path(getattr(tree, "tree", tree))[0]

    headers = {}
    for path, leaf in _orbax(folder, look):
        key = tuple(str(getattr(k, "key", getattr(k, "idx", k))) for k in path)
        shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
        headers[key] = (tuple(shape or ()), type(leaf).__name__ if dtype is None else dtype)
    return headers


def read_leaf(folder: Path, key: Key, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """One leaf as it was saved.

    Raises:
      CheckpointError: it is damaged, or not what its header says. Orbax casts without a word.
    """

    def nested(value):
        for k in reversed(key):
            value = {k: value}
        return value

    def restore():
        return ocp.PyTreeCheckpointHandler().restore(
            epath.Path(folder.absolute()),
            args=ocp.args.PyTreeRestore(
                item=nested(0),
                restore_args=nested(ocp.RestoreArgs(restore_type=np.ndarray)),
                partial_restore=True,
            ),
        )

    leaf = _orbax(folder, restore)
    for k in key:
        leaf = leaf[k]
    if leaf.dtype != dtype or leaf.shape != shape:
        raise CheckpointError(
            f"{folder}: {'/'.join(key)} was restored as {leaf.dtype}{list(leaf.shape)}, "
            f"not {dtype}{list(shape)}"
        )
    return leaf


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

    def save() -> None:
        handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree, save_args=chunks))

    _orbax(folder, save)


def _orbax(folder: Path, call: Callable):
    """call(), with any error but our own as one line: Orbax lets TensorStore's through as it is."""
    try:
        return call()
    except (CheckpointError, OSError, MemoryError) as error:
        if isinstance(error, FileNotFoundError):
            raise CheckpointError(f"{folder}: cannot be read: {_line(error)}") from None
        raise
    except Exception as error:
        raise CheckpointError(f"{folder}: damaged, or not Orbax's: {_line(error)}") from None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
