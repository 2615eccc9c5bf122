"""Every position and every mask of the network.

Padding is dealt with once, when keys are written: the cache holds each row's real tokens only, in
order. So a token's position is its rank among the row's real tokens, wherever the padding stood.
The cache of a layer is a ring of S slots: position p lies in slot p mod S. While the row has at
most S tokens, that is slot p. Sliding layers have window - 1 slots, because a later token sees no
more than that.
"""

import jax
import jax.numpy as jnp

NO_WINDOW = 2**30  # the window of full layers


def token_positions(length: jax.Array, mask: jax.Array | None, num_tokens: int) -> jax.Array:
    """Positions of new tokens after the cached ones.

    Args:
      length: [B] int32, tokens that are in the cache already.
      mask: [B, T] bool, True at real tokens; None if all are real.
      num_tokens: T.

    Returns:
      [B, T] int32. A padding token has the position of the real token before it, and is masked.
    """
    if mask is None:
        return length[:, None] + jnp.arange(num_tokens, dtype=jnp.int32)
    return length[:, None] + jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1


def slot_positions(length: jax.Array, num_slots: int) -> jax.Array:
    """The position that each slot of a ring holds.

    Args:
      length: [B] int32, tokens that were written to the ring.
      num_slots: S.

    Returns:
      [B, S] int32; negative where the slot is empty.
    """
    slot = jnp.arange(num_slots, dtype=jnp.int32)
    if num_slots == 0:
        return jnp.zeros((length.shape[0], 0), jnp.int32)
    last = length[:, None] - 1
    return slot + num_slots * jnp.floor_divide(last - slot, num_slots)


def write_slots(
    positions: jax.Array, mask: jax.Array | None, new_length: jax.Array, num_slots: int
) -> jax.Array:
    """The slot that each new token is written to.

    Padding is not written. Nor is a token that later ones of the same call would overwrite.

    Args:
      positions: [B, T] int32, from token_positions.
      mask: [B, T] bool, True at real tokens; None if all are real.
      new_length: [B] int32, tokens in the cache after the call.
      num_slots: S.

    Returns:
      [B, T] int32; S, which is out of range, for tokens that are not written.
    """
    keep = positions >= new_length[:, None] - num_slots
    if mask is not None:
        keep &= mask
    return jnp.where(keep, positions % max(num_slots, 1), num_slots)


def visible(query: jax.Array, key: jax.Array, window: int) -> jax.Array:
    """Which keys a query sees: those up to its own position, and only the last `window` of them.

    In encode mode, a query has its token's position. In denoise mode, every token of a canvas has
    the position of the canvas' first token. So all of them see the same cached tokens, and in
    sliding layers these are the last window - 1 (docs/MODEL.md, Network).

    Args:
      query: [B, T] int32 positions.
      key: [B, S] int32 positions; negative for an empty slot or padding, which no query sees.
      window: in tokens, the query's own included; NO_WINDOW in full layers.

    Returns:
      [B, T, S] bool.
    """
    query, key = query[:, :, None], key[:, None, :]
    return (key >= 0) & (key <= query) & (query - key < window)
