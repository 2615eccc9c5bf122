"""Softmax attention over several parts of keys and values, in bounded memory.

`attend` folds one part after another, and long parts chunk by chunk, into a running softmax.
`attend_band` is attention within a window over long texts. kernels/flash_attention.py is the GPU's
way of `attend`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.ops import masks
from diffusiongemma.ops.reductions import sum_last

# Byte limit for the float32 scores that are in memory at once. Longer parts are read in chunks of
# keys.
SCORE_BYTES = 64 << 20
LOWEST_SCORE = jnp.finfo(jnp.float32).min  # the score of a key that the query does not see


class Part(NamedTuple):
    """Keys and values to attend to.

    Attributes:
      keys: [B, K, S, h].
      values: [B, K, S, h].
      positions: [B, S] int32, the keys' positions for masks.visible; None if every query sees all.
    """

    keys: jax.Array
    values: jax.Array
    positions: jax.Array | None


class RunningSoftmax(NamedTuple):
    """The softmax over the keys that were read so far, for R query rows.

    Attributes:
      top: [.., R, 1] float32, the largest score. Inside the Pallas kernel, top and total are [R].
      total: [.., R, 1] float32, the sum of exp(score - top).
      out: [.., R, h] float32, the sum of exp(score - top) * value.
    """

    top: jax.Array
    total: jax.Array
    out: jax.Array


Fold = Callable[[RunningSoftmax | None, Part], RunningSoftmax]


def attend(
    q: jax.Array,
    parts: Sequence[Part],
    query: jax.Array,
    window: int,
    reach: jax.Array | None = None,
) -> jax.Array:
    """Grouped-query attention over all parts together, which are never copied into one array.

    The softmax has scale 1 and is computed in float32. A part with fewer rows than q is shared: row
    i of q reads row i // (rows of q / rows of the part).

    Args:
      q: [B, T, H, h].
      parts: K must divide H. The parts' rows must divide B and one another. Every query must see
        something of the first part.
      query: [B', T or 1] int32, the queries' positions. B' is the number of rows of the parts that
        have positions.
      window: of masks.visible.
      reach: of masks.visible, [B', T] int32.

    Returns:
      [B, T, H, h] in the values' dtype.
    """
    batch, num_queries, heads, head_dim = q.shape
    kv_heads = parts[0].keys.shape[1]
    group = heads // kv_heads
    rows = min(part.keys.shape[0] for part in parts)
    share = batch // rows
    # Batch axes come first, and all queries of one KV head are rows of one matrix product. This is
    # the layout in which XLA's CPU products are fastest: with gradients, 2.5 times as fast as an
    # einsum over five axes.
    q = q.reshape(rows, share, num_queries, kv_heads, group, head_dim).transpose(0, 3, 1, 4, 2, 5)

    def by_head(x: jax.Array) -> jax.Array:
        """[B', K, S, h] -> [rows, K, B' / rows, S, h]."""
        return x.reshape(rows, -1, *x.shape[1:]).swapaxes(1, 2)

    def fold(softmax: RunningSoftmax | None, part: Part) -> RunningSoftmax:
        keys, values = by_head(part.keys), by_head(part.values)
        own, size = keys.shape[2:4]
        scores = jnp.einsum(
            "bkrth,bkrsh->bkrts",
            q.reshape(rows, kv_heads, own, -1, head_dim),
            keys,
            preferred_element_type=jnp.float32,
        )
        if part.positions is not None:
            seen = masks.visible(query, part.positions, window, reach)[:, None, None, None]
            scores = scores.reshape(rows, kv_heads, own, -1, num_queries, size)
            scores = jnp.where(seen, scores, LOWEST_SCORE)
        scores = scores.reshape(rows, kv_heads, -1, size)
        top = scores.max(axis=-1, keepdims=True)
        if softmax is not None:
            top = jnp.maximum(top, softmax.top)
        top = jax.lax.stop_gradient(top)
        weights = jnp.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        weights = weights.astype(values.dtype).reshape(rows, kv_heads, own, -1, size)
        out = jnp.matmul(weights, values, preferred_element_type=jnp.float32)
        out = out.reshape(rows, kv_heads, -1, head_dim)
        if softmax is not None:
            shrink = jnp.exp(softmax.top - top)
            total, out = softmax.total * shrink + total, softmax.out * shrink + out
        return RunningSoftmax(top, total, out)

    softmax = None
    for part in parts:
        softmax = _fold_chunks(fold, softmax, part, batch * heads * num_queries)
    out = _divide(softmax.out, softmax.total).astype(parts[0].values.dtype)
    out = out.reshape(rows, kv_heads, share, group, num_queries, head_dim)
    return out.transpose(0, 2, 4, 1, 3, 5).reshape(batch, num_queries, heads, head_dim)


def attend_band(
    q: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    window: int,
    reach: jax.Array | None = None,
) -> jax.Array:
    """Causal attention of tokens to the last `window` of them, in time linear in their number.

    A block of `window` queries reads its own keys and those of the block before, and no others. If
    queries reach further than themselves, it also reads the block after.

    Args:
      q: [B, T, H, h].
      keys: [B, K, T, h]; K must divide H.
      values: [B, K, T, h].
      positions: [B, T] int32, each one more than the last.
      window: in tokens, the query's own included.
      reach: of masks.visible, [B, T] int32.

    Returns:
      [B, T, H, h] in the values' dtype: what attend() gives, up to rounding.
    """
    batch, num_tokens = positions.shape
    after, others = -num_tokens % window, 1 if reach is None else 2

    def cut(x: jax.Array, axis: int, others: int, fill: int = 0) -> jax.Array:
        """[B, .. T ..] -> [B blocks, .. window ..]; with other blocks: .. (1 + others) window .. .

        The first other block is the one before, and the second is the one after.
        """
        widths = [(0, 0)] * x.ndim
        widths[axis] = ((others > 0) * window, after + (others > 1) * window)
        x = jnp.pad(x, widths, constant_values=fill)
        x = jnp.moveaxis(x.reshape(*x.shape[:axis], -1, window, *x.shape[axis + 1 :]), axis, 1)
        if others:
            count = x.shape[1] - others
            x = jnp.concatenate([x[:, i : i + count] for i in range(1 + others)], axis=axis + 1)
        return x.reshape(-1, *x.shape[2:])

    # Queries after the end see nothing; their results are cut off.
    part = Part(*(cut(x, 2, others) for x in (keys, values)), cut(positions, 1, others, fill=-1))
    reach = None if reach is None else cut(reach, 1, 0, fill=-1)
    out = attend(cut(q, 1, 0), [part], cut(positions, 1, 0), window, reach)
    return out.reshape(batch, -1, *q.shape[2:])[:, :num_tokens]


@jax.custom_vjp
def _divide(out: jax.Array, total: jax.Array) -> jax.Array:
    """[..., h] / [..., 1], with a gradient that sums by sum_last."""
    return out / total


def _divide_forward(
    out: jax.Array, total: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = out / total
    return y, (y, total)


def _divide_backward(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    y, total = residuals
    dout = dy / total
    return dout, -sum_last(dout * y)


_divide.defvjp(_divide_forward, _divide_backward)


def _fold_chunks(
    fold: Fold, softmax: RunningSoftmax | None, part: Part, num_queries: int
) -> RunningSoftmax:
    """Folds a part in, in chunks of keys whose scores stay within SCORE_BYTES."""
    length = part.keys.shape[2]
    size = max(SCORE_BYTES // (4 * num_queries), 128)
    if size >= length:
        return fold(softmax, part)

    def chunk(start: jax.Array | int, size: int) -> Part:
        def cut(x: jax.Array | None, axis: int) -> jax.Array | None:
            return None if x is None else jax.lax.dynamic_slice_in_dim(x, start, size, axis)

        return Part(cut(part.keys, 2), cut(part.values, 2), cut(part.positions, 1))

    # The keys that are left over by whole chunks come first. They also give the loop its first
    # state.
    first = length % size or size
    softmax = fold(softmax, chunk(0, first))

    @jax.checkpoint
    def step(softmax: RunningSoftmax, start: jax.Array) -> tuple[RunningSoftmax, None]:
        return fold(softmax, chunk(start, size)), None

    return jax.lax.scan(step, softmax, jnp.arange(first, length, size))[0]
