"""How many tokens of a finished canvas are valid: those up to the first stop token."""

import jax
import jax.numpy as jnp


def is_stop(tokens: jax.Array, stop_ids: tuple[int, ...]) -> jax.Array:
    """Marks the tokens that end a generation: [...] int32 -> [...] bool."""
    found = jnp.zeros(tokens.shape, bool)
    for stop_id in stop_ids:
        found |= tokens == stop_id
    return found


def count_valid(
    tokens: jax.Array, stop_ids: tuple[int, ...], limit: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
    """Counts a canvas' tokens up to and with the first stop token, and at most `limit`.

    Args:
      tokens: [B, C] int32.
      stop_ids: tokens that end a generation; may be empty.
      limit: number of tokens that the generation may still take.

    Returns:
      valid: [B] int32, the counts; and ended: [B] bool, whether a stop token is among the tokens.
    """
    stops = is_stop(tokens, stop_ids)
    size = tokens.shape[1]
    limit = jnp.minimum(limit, size)
    first = jnp.where(stops.any(axis=1), jnp.argmax(stops, axis=1), size)
    return jnp.minimum(first + 1, limit).astype(jnp.int32), first < limit


def cut(tokens: jax.Array, valid: jax.Array, pad_id: int) -> jax.Array:
    """Replaces what follows the first `valid` [B] tokens of each row of [B, C] by pad."""
    return jnp.where(jnp.arange(tokens.shape[1]) < valid[:, None], tokens, pad_id)
