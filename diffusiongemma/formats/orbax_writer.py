"""Writes an Orbax checkpoint of one tree of arrays, a few arrays at a time.

Orbax itself takes whole trees. Here an array is made when its turn comes; the files are Orbax's own
either way. Saving holds about twice the largest array, because its compressed chunks wait to be
written. This file imports Orbax, which takes half a second: import it only to write.
"""

import dataclasses
import errno
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from diffusiongemma.formats.orbax_tree import Key, one_line_errors

BATCH_BYTES = 64 << 20  # bytes of arrays saved at once, unless one array alone is larger
CHUNK_BYTES = 32 << 20  # bytes of an array compressed at once
MARGIN_BYTES = 2 << 20  # bytes for the metadata of all arrays


@dataclasses.dataclass(frozen=True)
class NewLeaf:
    """An array to be saved.

    Attributes:
      shape: the array's shape.
      dtype: the dtype in the file; the array is cast to it.
      make: makes the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes, without compression."""
        return math.prod(self.shape) * self.dtype.itemsize


class _LeafHandler(ocp.type_handlers.NumpyHandler):
    """Saves leaves as NumPy arrays, one batch after the other."""

    def __init__(self):
        super().__init__(deepcopy_host_arrays=False)

    async def serialize(
        self,
        values: Sequence[NewLeaf],
        infos: Sequence[ocp.type_handlers.ParamInfo],
        args: Sequence[ocp.SaveArgs] | None = None,
    ) -> list[Any]:
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


def write_tree(folder: Path, leaves: dict[Key, NewLeaf]) -> None:
    """Saves a tree of dicts as a new folder.

    Args:
      folder: the folder, which must not be there yet.
      leaves: the keys of a leaf from the root -> the array.

    Raises:
      CheckpointError: Orbax could not save the tree.
      OSError: the disk has no room for it.
    """
    # The free space is checked first, because Orbax meets a full disk in several threads, loudly.
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
        (jax.Array, ocp.type_handlers.ArrayHandler()), (NewLeaf, _LeafHandler())
    )
    chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    with one_line_errors(folder), ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree, save_args=chunks))
