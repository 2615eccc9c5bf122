"""Several starts of a canvas: it is denoised from different noise, and the surest one is taken.

With S starts, each canvas of each of B rows is denoised S times, as a batch of B S canvases behind
the cache of the B rows. The starts of a row are neighbours: start s of row b is canvas b S + s.
Start 0 has the row's own key, so it is what one start gives. sampler.py runs the loop.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sample.batch import fold_in


class Starts(NamedTuple):
    """What each of the S starts of K canvases of C tokens came to.

    The start with the lowest entropy was taken, and of equal ones the first.

    Attributes:
      tokens: [B, K, S, C] int32; the stop token is kept, pad follows it.
      steps: [B, K, S] int32, denoising steps of each start; 0 for a canvas that was not begun.
      valid_tokens: [B, K, S] int32, as in Generation.
      entropy: [B, K, S] float32, nats, the mean over the counted positions at the start's last
        step; -1 for a canvas that was not begun.
    """

    tokens: np.ndarray
    steps: np.ndarray
    valid_tokens: np.ndarray
    entropy: np.ndarray


def start_keys(keys: jax.Array, starts: int) -> jax.Array:
    """A key for each start of each row: [B] keys -> [B S] keys.

    The first start of a row has the row's key. Generating with another start's key for the row, and
    with one start, gives what that start gives.
    """
    if starts == 1:
        return keys
    # Canvases are folded into a row's key as 0, 1, ..., so starts come from the other end.
    others = np.uint32(2**32 - np.arange(1, starts, dtype=np.int64))
    others = jax.vmap(fold_in, in_axes=(None, 0), out_axes=1)(keys, others)  # [B, S - 1]
    return jnp.concatenate([keys[:, None], others], axis=1).reshape(-1)


def for_starts(rows: Any, starts: int) -> Any:
    """Repeats rows for their starts: any pytree of [B, ...] -> [B S, ...]."""
    if starts == 1:
        return rows
    return jax.tree.map(lambda array: jnp.repeat(array, starts, axis=0), rows)


def by_row(canvases: Any, starts: int) -> Any:
    """Gives the starts of a row an axis of their own: any pytree of [B S, ...] -> [B, S, ...]."""
    return jax.tree.map(lambda array: array.reshape(-1, starts, *array.shape[1:]), canvases)


def surest(entropy: jax.Array, starts: int) -> jax.Array:
    """The start of each row with the lowest mean entropy, the first of equal ones.

    Args:
      entropy: [B S] float32, mean entropies.
      starts: S.

    Returns:
      [B] int32, from 0 to S - 1.
    """
    return jnp.argmin(by_row(entropy, starts), axis=1)


def take(canvases: jax.Array, chosen: jax.Array) -> jax.Array:
    """The chosen start of each row: canvases [B S, ...] and chosen [B] -> [B, ...]."""
    rows = chosen.shape[0]
    starts = canvases.shape[0] // rows
    if starts == 1:
        return canvases
    return canvases[jnp.arange(rows) * starts + chosen]
