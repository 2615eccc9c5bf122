"""Prompts as arrays: padding, checks, and a random key for each row."""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma import ModelConfig
from sample.stopping import check_stop_ids


def pad_prompts(
    prompts: Sequence[Sequence[int]], pad_id: int, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pads prompts on the right.

    Args:
      prompts: the tokens of each prompt.
      pad_id: the token that fills up the rows.
      width: P, which no prompt exceeds; None for the length of the longest prompt.

    Returns:
      tokens: [B, P] int32; and mask: [B, P] bool, True at real tokens.
    """
    width = max(map(len, prompts)) if width is None else width
    tokens = np.full((len(prompts), width), pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for i, prompt in enumerate(prompts):
        tokens[i, : len(prompt)] = prompt
        mask[i, : len(prompt)] = True
    return tokens, mask


def bucket(longest: int, max_length: int) -> int:
    """The width to which prompts of up to `longest` tokens are padded.

    There are two widths in every power of two, from 64 up to max_length, so that a program serves
    prompts of many lengths.
    """
    step = max(64, (1 << (longest - 1).bit_length()) // 4)
    return max(longest, min(-(-longest // step) * step, max_length))


def check_settings(canvas_size: int, stop_ids: tuple[int, ...] | None, model: ModelConfig) -> None:
    """Raises ValueError if a canvas exceeds the model's context, or if a stop id is no token."""
    if canvas_size > model.max_length:
        raise ValueError(
            f"a canvas of {canvas_size} tokens exceeds the model's context of {model.max_length}"
        )
    check_stop_ids(stop_ids, model.vocab_size)


def check_prompts(
    tokens: jax.Array, mask: jax.Array | None, new_tokens: int, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Checks a batch of prompts.

    Args:
      tokens: [B, P], prompts.
      mask: [B, P], true at real tokens; None if all are real.
      new_tokens: number of tokens that each row is to get.
      max_length: longest context of the model, in tokens.

    Returns:
      tokens [B, P] int32 and mask [B, P] bool as NumPy arrays.

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


def check_data(data: Any, batch_size: int, num_canvases: int) -> None:
    """Raises ValueError if an array of the pytree `data` is not [batch_size, num_canvases, ...]."""
    for array in jax.tree.leaves(data):
        if np.shape(array)[:2] != (batch_size, num_canvases):
            raise ValueError(
                f"data must have a leading axis of {batch_size} rows and one of {num_canvases} "
                f"canvases in every array, not {np.shape(array)}"
            )


def fold_in(keys: jax.Array, data: jax.Array | int) -> jax.Array:
    """jax.random.fold_in for each of the keys [B]."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)


def row_keys(
    key: jax.Array, tokens: np.ndarray, mask: np.ndarray, beside: Sequence[bytes] | None = None
) -> jax.Array:
    """A PRNG key for each row: [B] keys.

    Args:
      key: [B] keys, which are returned; or one key, which is folded with a checksum of each row's
        real tokens.
      tokens, mask: as check_prompts returns them.
      beside: for each row, what tells it from others with the same tokens: the hashes of its images
        (images.row_contents). None for nothing.

    Raises:
      ValueError: the key is neither one key nor one for each row.
    """
    batch_size = tokens.shape[0]
    beside = [b""] * batch_size if beside is None else beside
    if key.dtype == jnp.uint32:  # the old form, from jax.random.PRNGKey
        key = jax.random.wrap_key_data(key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == (batch_size,):
            return key
        if key.shape == ():
            sums = [
                zlib.crc32(row[real].astype("<i4").tobytes() + more)
                for row, real, more in zip(tokens, mask, beside, strict=True)
            ]
            return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, np.array(sums, np.uint32))
    raise ValueError(f"key must be one jax.random.key or {batch_size} of them, not {key.shape}")
