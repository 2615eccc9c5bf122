"""Prompts as arrays: padding, what is refused, and each row's own random key."""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def pad_prompts(
    prompts: Sequence[Sequence[int]], pad_id: int, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens [B, P] int32, mask [B, P] bool) of prompts, padded on the right.

    P is `width`, which no prompt exceeds; None for that of the longest.
    """
    width = max(map(len, prompts)) if width is None else width
    tokens = np.full((len(prompts), width), pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for i, prompt in enumerate(prompts):
        tokens[i, : len(prompt)] = prompt
        mask[i, : len(prompt)] = True
    return tokens, mask


def check_prompts(
    tokens: jax.Array, mask: jax.Array | None, new_tokens: int, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """tokens [B, P] int32 and mask [B, P] bool as NumPy arrays, all True for None.

    Raises:
      ValueError: shapes that do not match, no rows, a row without a real token, or a context longer
        than max_length.
    """
    tokens = np.asarray(tokens, np.int32)
    mask = np.ones(tokens.shape, bool) if mask is None else np.asarray(mask, bool)
    if tokens.ndim != 2 or tokens.shape[0] == 0:
        raise ValueError(
            f"tokens must be [batch, prompt] with at least one row, not {tokens.shape}"
        )
    if mask.shape != tokens.shape:
        raise ValueError(f"mask {mask.shape} does not fit tokens {tokens.shape}")
    lengths = mask.sum(axis=1)
    if not lengths.all():
        raise ValueError(f"prompt {int(lengths.argmin())} of the batch has no real token")
    if lengths.max() + new_tokens > max_length:
        raise ValueError(
            f"a prompt of {lengths.max()} and {new_tokens} new tokens exceed the model's context "
            f"of {max_length}"
        )
    return tokens, mask


def fold_in(keys: jax.Array, data) -> jax.Array:
    """jax.random.fold_in of each of keys [B]."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)


def row_keys(key: jax.Array, tokens: np.ndarray, mask: np.ndarray) -> jax.Array:
    """Keys [B]: as given, or one key folded with a checksum of each row's real tokens.

    Raises:
      ValueError: neither one key nor one a row.
    """
    batch_size = tokens.shape[0]
    if key.dtype == jnp.uint32:  # of jax.random.PRNGKey
        key = jax.random.wrap_key_data(key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == (batch_size,):
            return key
        if key.shape == ():
            sums = [
                zlib.crc32(row[real].astype("<i4").tobytes())
                for row, real in zip(tokens, mask, strict=True)
            ]
            return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, np.array(sums, np.uint32))
    raise ValueError(f"key must be one jax.random.key or {batch_size} of them, not {key.shape}")
