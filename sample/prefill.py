"""Reading prompts and finished canvases into a KV cache."""

import functools

import jax
import numpy as np

from diffusiongemma.attention import KVCache
from sample.split_model import SplitModel

# Columns of a prompt that are read at a time. So many keep a GPU computing for longer than reading
# the weights of the 26B takes (15 ms). More would only cost memory, as activations grow with them.
CHUNK = 2048


def prefill(
    model: SplitModel,
    tokens: np.ndarray,
    mask: np.ndarray,
    cache_length: int,
    chunk: int | None = CHUNK,
) -> KVCache:
    """Reads prompts into a new cache. One program is compiled for each shape.

    In chunks, the activations take the memory of one chunk however long the prompt is. The cache is
    the same up to rounding.

    Args:
      model: the model, split.
      tokens: [B, P] int32, prompts.
      mask: [B, P] bool, True at real tokens.
      cache_length: tokens of each row that the cache has room for.
      chunk: columns of tokens that are read at a time, at most; None reads all at once.

    Returns:
      a cache that holds the real tokens of each row.
    """
    batch_size, length = tokens.shape
    num_chunks = -(-length // (chunk or length))
    chunk = -(-length // num_chunks)  # equal sizes, so that the last chunk is not mostly padding
    cache = _empty_cache(model, batch_size, cache_length)
    for start in range(0, length, chunk):
        missing = max(start + chunk - length, 0)  # the last chunk is filled up with padding
        piece, real = (
            np.pad(x[:, start : start + chunk], ((0, 0), (0, missing))) for x in (tokens, mask)
        )
        cache = _read(model, piece, real, cache)
    return cache


def commit(model: SplitModel, cache: KVCache, tokens: jax.Array, done: np.ndarray) -> KVCache:
    """Appends finished canvases to the cache.

    A row that goes on has no stop token in its canvas, so all tokens of its canvas are real.

    Args:
      model: the model, split.
      cache: the context so far; it is donated.
      tokens: [B, C] int32, the canvases.
      done: [B] bool, rows that have ended; their part of the cache stays as it is.
    """
    mask = np.broadcast_to(~done[:, None], tokens.shape)
    return _read(model, tokens, mask, cache)


@functools.partial(jax.jit, static_argnames=("batch_size", "cache_length"))
def _empty_cache(model: SplitModel, batch_size: int, cache_length: int) -> KVCache:
    return model.merge().init_cache(batch_size, cache_length)


@functools.partial(jax.jit, donate_argnames=("cache",))
def _read(model: SplitModel, tokens: jax.Array, mask: jax.Array, cache: KVCache) -> KVCache:
    return model.merge().encode(tokens, cache, mask, logits="none")[1]
