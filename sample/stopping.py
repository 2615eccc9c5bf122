"""When a row's canvas is finished, and which of its tokens count."""

import jax
import jax.numpy as jnp


def settled(
    n: jax.Array, entropy: jax.Array, best: jax.Array, previous: jax.Array, threshold: float
) -> jax.Array:
    """The early stop of TR alg. 1: confident, and of the same opinion as one step ago.

    Args:
      n: the step, from 1; the first never stops.
      entropy: [B, C] float32, nats.
      best, previous: [B, C] int32, the argmax canvases of this step and of the one before.
      threshold: largest mean entropy at which a row stops.

    Returns:
      [B] bool.
    """
    unchanged = jnp.all(best == previous, axis=1)
    return (n > 1) & unchanged & (jnp.mean(entropy, axis=1) <= threshold)


def is_stop(tokens: jax.Array, stop_ids: tuple[int, ...]) -> jax.Array:
    """Which tokens end a generation: [...] int32 -> [...] bool."""
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
      limit: how many tokens the generation still takes.

    Returns:
      valid [B] int32; and ended [B] bool, whether a stop token is among them.
    """
    stops = is_stop(tokens, stop_ids)
    size = tokens.shape[1]
    limit = jnp.minimum(limit, size)
    first = jnp.where(stops.any(axis=1), jnp.argmax(stops, axis=1), size)
    return jnp.minimum(first + 1, limit).astype(jnp.int32), first < limit


def cut(tokens: jax.Array, valid: jax.Array, pad_id: int) -> jax.Array:
    """Pads [B, C] tokens after the first `valid` [B] of each row."""
    return jnp.where(jnp.arange(tokens.shape[1]) < valid[:, None], tokens, pad_id)
