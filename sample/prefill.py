"""Reading prompts into a KV cache, whole or in chunks."""

import functools

import jax
import numpy as np
from flax import nnx

from diffusiongemma.attention import KVCache
from sample.split_model import Structure

# Columns of a prompt: enough for a GPU to compute longer than it reads the 26B's weights (15 ms),
# and no more, for activations grow with them.
CHUNK = 2048


def prefill(
    structure: Structure,
    state: nnx.State,
    tokens: np.ndarray,
    mask: np.ndarray,
    cache_length: int,
    chunk: int | None = CHUNK,
) -> KVCache:
    """A cache that holds the real tokens of each row, compiled once for each shape.

    In chunks, activations are those of a chunk however long the prompt; the cache is the same up to
    rounding.

    Args:
      structure, state: of the model (frozen.py).
      tokens: [B, P] int32.
      mask: [B, P] bool, True at real tokens.
      cache_length: tokens a row that the cache has room for.
      chunk: columns of tokens that are read at a time, at most; None for all.
    """
    batch_size, length = tokens.shape
    pieces = -(-length // (chunk or length))
    chunk = -(-length // pieces)  # of one size, lest the last is mostly padding
    cache = _empty_cache(structure, state, batch_size, cache_length)
    for start in range(0, length, chunk):
        missing = max(start + chunk - length, 0)  # the last chunk is filled up with padding
        piece, real = (
            np.pad(x[:, start : start + chunk], ((0, 0), (0, missing))) for x in (tokens, mask)
        )
        cache = _read(structure, state, piece, real, cache)
    return cache


@functools.partial(jax.jit, static_argnames=("structure", "batch_size", "cache_length"))
def _empty_cache(structure, state, batch_size, cache_length):
    return structure.merge(state).init_cache(batch_size, cache_length)


@functools.partial(jax.jit, static_argnames=("structure",), donate_argnames=("cache",))
def _read(structure, state, tokens, mask, cache):
    return structure.merge(state).encode(tokens, cache, mask, logits="none")[1]


def commit(structure, state, cache: KVCache, tokens: jax.Array, done: np.ndarray) -> KVCache:
    """Appends finished canvases [B, C] to the cache, which is donated; rows done [B] keep theirs.

    A row that goes on has no stop token in its canvas, so all of it is real.
    """
    mask = np.broadcast_to(~done[:, None], tokens.shape)
    return _read(structure, state, tokens, mask, cache)
