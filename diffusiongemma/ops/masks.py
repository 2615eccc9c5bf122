"""Every position and every mask of the network, and nowhere else.

Padding is dealt with once, when keys are written: the cache holds each row's real tokens only, in
order, so a token's position is its rank among them, wherever the padding stood. A layer's cache of
S slots is a ring: position p lies in slot p mod S. While the row has at most S tokens, that is
slot p; sliding layers are given window - 1 slots, which is all that a later token may still see.
"""

import jax
import jax.numpy as jnp

NO_WINDOW = 2**30


def token_positions(length: jax.Array, mask: jax.Array | None, num_tokens: int) -> jax.Array:
    """Positions of new tokens after `length` [B] cached ones.

    Args:
      length: [B] int32, tokens already in the cache.
      mask: [B, T] bool, True at real tokens; None if all are.
      num_tokens: T.

    Returns:
      [B, T] int32; a padding token gets the position of the real token before it, and is masked.
    """
    if mask is None:
        return length[:, None] + jnp.arange(num_tokens, dtype=jnp.int32)
    return length[:, None] + jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1


def slot_positions(length: jax.Array, num_slots: int) -> jax.Array:
    """[B, S] int32: the position held by each slot of a ring; negative where the slot is empty."""
    slot = jnp.arange(num_slots, dtype=jnp.int32)
    if num_slots == 0:
        return jnp.zeros((length.shape[0], 0), jnp.int32)
    last = length[:, None] - 1
    return slot + num_slots * jnp.floor_divide(last - slot, num_slots)


def write_slots(
    positions: jax.Array, mask: jax.Array | None, new_length: jax.Array, num_slots: int
) -> jax.Array:
    """[B, T] int32: the slot that each new token is written to; S (out of range) for none.

    Padding is not written, nor is a token that later ones of the same call would overwrite.
    """
    keep = positions >= new_length[:, None] - num_slots
    if mask is not None:
        keep &= mask
    return jnp.where(keep, positions % max(num_slots, 1), num_slots)


def visible(query: jax.Array, key: jax.Array, window: int) -> jax.Array:
    """Which keys a query sees: those up to its own position, of the last `window` ones.

    In encode mode a query has its token's position. In denoise mode every token of a canvas has
    that of its first: all see the same cached tokens, in sliding layers the last window - 1.

    Args:
      query: [B, T] int32 positions.
      key: [B, S] int32 positions; negative for what nobody sees: an empty slot, padding.
      window: in tokens, the query's own included; NO_WINDOW in full layers.

    Returns:
      [B, T, S] bool.
    """
    query, key = query[:, :, None], key[:, None, :]
    return (key >= 0) & (key <= query) & (query - key < window)
