"""What a checkpoint is, in a few characters, so that its answers are not taken for another's."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.text.tokenizer import DEFAULT_PATH
from sample.checkpoint import TOKENIZER, Checkpoint
from sample.split_model import SplitModel

# Hexadecimal digits of a fingerprint. Older versions, which read a part of each tensor, had 16.
LENGTH = 20
# Bytes of the largest array that is hashed on the host. A device sums up the elements of larger
# ones, by a program that is compiled for each shape.
ON_DEVICE = 1 << 22
# Files beside the weights that decide which tokens a prompt becomes.
TEXT_FILES = ("chat_template.jinja", "tokenizer_config.json")


class CheckpointId(NamedTuple):
    """Which checkpoint an answer is of.

    Attributes:
      folder: the checkpoint as it was named on the command line.
      fingerprint: a hash of what it holds (`fingerprint`); "" if nobody asked.
    """

    folder: str = ""
    fingerprint: str = ""


UNNAMED = CheckpointId()


def fingerprint(checkpoint: Checkpoint, model: SplitModel, tokenizer: str | None = None) -> str:
    """A hash of all that a checkpoint's answers depend on.

    It covers the config, each element of all arrays of the loaded model (LoRA factors and quantized
    matrices too), the tokenizer and the chat template. It does not cover where the folder is, or in
    which format it is. Every array is read once, where it lies. By its bandwidth, an H100 reads the
    50 GB of the 26B in about 15 ms; two cores take 20 seconds.

    The fingerprint of formats/adapter.py is of no use here. It rounds to bfloat16, because a base
    stays the same base in another dtype, and it leaves out LoRA factors and quantization.

    Args:
      checkpoint: the checkpoint.
      model: the model that was loaded from it, in the dtype that it answers in.
      tokenizer: a tokenizer.json or its folder, if it is used in place of the checkpoint's.

    Raises:
      CheckpointError, OSError: the checkpoint cannot be read.
    """
    adapter, named = checkpoint.adapter, checkpoint.companions
    parts = [checkpoint.config.to_fields(), adapter and [adapter.rank, adapter.alpha]]
    parts += [
        [jax.tree_util.keystr(path), str(array.dtype), array.shape, _hash(array)]
        for path, array in jax.tree_util.tree_leaves_with_path(model.state)
    ]
    found = hashlib.sha256(json.dumps(parts).encode())
    own = Path(tokenizer) if tokenizer else named.get(TOKENIZER, DEFAULT_PATH)
    own = own / TOKENIZER if own.is_dir() else own
    for file in (own, *(named[name] for name in TEXT_FILES if name in named)):
        with open(file, "rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:LENGTH]


def _hash(array: jax.Array) -> str:
    """A hash of all elements of an array: of its bytes, or of the device's sum if they are many."""
    value = np.asarray(_checksum(array) if array.nbytes > ON_DEVICE else array)
    return hashlib.sha256(value.tobytes()).hexdigest()


@jax.jit
def _checksum(array: jax.Array) -> jax.Array:
    """A uint32 that changes with any one element of an array: the sum of a hash of each.

    The hash is MurmurHash3's finalizer of the element's bits and place. No two bits have the same
    hash in a place. A sum of integers is the same on all devices.
    """
    bits = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}").reshape(-1)
    place = jnp.arange(array.size, dtype=jnp.uint32)
    found = bits.astype(jnp.uint32) ^ (place * jnp.uint32(0x9E3779B1))
    found = (found ^ (found >> 16)) * jnp.uint32(0x85EBCA6B)
    found = (found ^ (found >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(found ^ (found >> 16), dtype=jnp.uint32)
