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


def visible(
    query: jax.Array, key: jax.Array, window: int, reach: jax.Array | None = None
) -> jax.Array:
    """Which keys a query sees: those up to its own position, and only the last `window` of them.

    In encode mode, a query has its token's position. In denoise mode, every token of a canvas has
    the position of the canvas' first token. So all of them see the same cached tokens, and in
    sliding layers these are the last window - 1 (docs/MODEL.md, Network).

    A token of an image sees further in sliding layers: up to its `reach`.

    Args:
      query: [B, T] int32 positions.
      key: [B, S] int32 positions; negative for an empty slot or padding, which no query sees.
      window: in tokens, the query's own included; NO_WINDOW in full layers.
      reach: [B, T] int32, the last position that each query sees (span_reach). None: its own.

    Returns:
      [B, T, S] bool.
    """
    query, key = query[:, :, None], key[:, None, :]
    last = query if reach is None else reach[:, :, None]
    return (key >= 0) & (key <= last) & (query - key < window)


def span_reach(
    positions: jax.Array, in_span: jax.Array, mask: jax.Array | None, window: int
) -> jax.Array:
    """The last position that each token sees where the tokens of a span see each other.

    A span is a run of tokens, such as the tokens of an image. A token of it sees the later tokens
    of its span that are less than `window` away. Every other token sees up to itself.

    Args:
      positions: [B, T] int32, from token_positions.
      in_span: [B, T] bool, True at the tokens of spans. Padding is in none.
      mask: [B, T] bool, True at real tokens; None if all are real.
      window: in tokens.

    Returns:
      [B, T] int32.
    """
    outside = ~in_span if mask is None else ~in_span & mask
    end = jnp.where(outside, positions, positions[:, -1:] + 1)
    end = jax.lax.cummin(end, axis=1, reverse=True)  # the next token that is in no span
    reach = jnp.minimum(end - 1, positions + window - 1)
    return jnp.where(in_span, reach, positions)
