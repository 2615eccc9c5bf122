"""Every position and every mask of the network, and nowhere else.

Padding is dealt with once, when keys are written: the cache holds each row's real tokens only, in
order, so a token's position is its rank among them, wherever the padding stood. A layer's cache of
S slots is a ring: position p lies in slot p mod S. While the row has at most S tokens, that is
slot p; sliding layers are given window - 1 slots, which is all that a later token may still see.
"""

import jax
import jax.numpy as jnp


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


def encode_masks(
    length: jax.Array, positions: jax.Array, mask: jax.Array | None, num_slots: int, window: int
) -> tuple[jax.Array, jax.Array]:
    """Causal visibility of the cache slots and of the new tokens, for each new token.

    Args:
      length: [B] int32, tokens in the cache before this call.
      positions: [B, T] int32 of the new tokens.
      mask: [B, T] bool or None.
      num_slots: S.
      window: a token sees itself and the window - 1 before it; 0 for no limit (full layers).

    Returns:
      [B, T, S] bool and [B, T, T] bool.
    """
    cached = slot_positions(length, num_slots)[:, None, :]
    query, key = positions[:, :, None], positions[:, None, :]
    # Within the call, order decides: padding shares its position with a real token.
    num_tokens = positions.shape[1]
    before = jnp.tril(jnp.ones((num_tokens, num_tokens), bool))
    if mask is not None:
        before = before & mask[:, None, :]
    filled = jnp.broadcast_to(cached >= 0, (length.shape[0], num_tokens, num_slots))
    before = jnp.broadcast_to(before, (length.shape[0], num_tokens, num_tokens))
    if window:
        filled, before = filled & (query - cached < window), before & (query - key < window)
    return filled, before


def denoise_mask(length: jax.Array, num_slots: int, window: int) -> jax.Array:
    """Visibility of the cache slots, the same for all tokens of a canvas: [B, 1, S] bool.

    Full layers (window 0) see every cached token, sliding layers the last window - 1. The canvas
    itself is seen as a whole by both.
    """
    cached = slot_positions(length, num_slots)
    visible = cached >= 0
    if window:
        visible &= cached > length[:, None] - window
    return visible[:, None, :]
