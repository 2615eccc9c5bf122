"""Attention as one Pallas kernel for Hopper GPUs. Its scores never leave the chip (FlashAttention).

`attend` returns what ops/blockwise_attention.attend returns. A program takes a block of query rows
of one KV head, and walks over tiles of keys with a running softmax. A canvas has few rows: then the
keys are split among several programs, and their sums are put together afterwards.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.tiling import SUMS, WARPS, dot, num_splits, share
from diffusiongemma.ops import blockwise_attention, masks
from diffusiongemma.ops.blockwise_attention import LOWEST_SCORE, Part, RunningSoftmax


class _PartLayout(NamedTuple):
    """What a program knows of one part of the keys besides its arrays.

    Attributes:
      slots: S.
      share: rows of q that share a row of the part.
      masked: whether the part has positions.
    """

    slots: int
    share: int
    masked: bool


class _Layout(NamedTuple):
    """What a program knows besides its arrays.

    Attributes:
      queries: T.
      heads: H.
      group: query heads that share a KV head.
      query_share: rows of q that share a row of the queries' positions.
      window: of masks.visible.
      reaching: whether the queries have a reach, as masks.visible takes it.
      parts: of each part.
      rows: query rows of a program.
      keys: keys in a tile.
    """

    queries: int
    heads: int
    group: int
    query_share: int
    window: int
    reaching: bool
    parts: tuple[_PartLayout, ...]
    rows: int
    keys: int

    @property
    def kv_heads(self) -> int:
        return self.heads // self.group


class _Queries(NamedTuple):
    """The query rows of a program.

    Attributes:
      q: [rows, h].
      position: [rows] int32.
      reach: [rows] int32; None without a reach.
      batch: [] int32, their row of the batch.
      kv_head: [] int32.
    """

    q: jax.Array
    position: jax.Array
    reach: jax.Array | None
    batch: jax.Array
    kv_head: jax.Array


def supports(q: jax.Array, parts: Sequence[Part]) -> bool:
    """Whether the kernel is made for these arrays: bfloat16, heads of a power of two up to 512."""
    arrays = [q, *(part.keys for part in parts)]
    fit = all(x.dtype == jnp.bfloat16 and x.size < 2**31 for x in arrays)  # 32-bit offsets
    return fit and q.shape[-1] in (16, 32, 64, 128, 256, 512)


def attend(
    q: jax.Array,
    parts: Sequence[Part],
    query: jax.Array,
    window: int,
    reach: jax.Array | None = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """What blockwise_attention.attend returns, up to rounding.

    Gradients are those of blockwise_attention.attend, without Pallas.

    Args:
      q: [B, T, H, h].
      parts: the parts of the keys and values, as blockwise_attention.attend takes them.
      query: [B', T or 1] int32, the queries' positions, as blockwise_attention.attend takes them.
      window: of masks.visible.
      reach: of masks.visible, as blockwise_attention.attend takes it.
      interpret: True runs the kernel as plain JAX, on any platform.

    Returns:
      [B, T, H, h] in the values' dtype.
    """
    return _attend(q, tuple(parts), query, reach, window, interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q: jax.Array,
    parts: tuple[Part, ...],
    query: jax.Array,
    reach: jax.Array | None,
    window: int,
    interpret: bool,
) -> jax.Array:
    batch, num_queries, heads, head_dim = q.shape
    kv_heads = parts[0].keys.shape[1]
    group = heads // kv_heads
    # Shared memory holds two tiles of keys and two of values.
    rows, keys = min(128, SUMS // head_dim), min(64, SUMS // 2 // head_dim)
    layout = _Layout(
        queries=num_queries,
        heads=heads,
        group=group,
        query_share=batch // query.shape[0],
        window=window,
        reaching=reach is not None,
        parts=tuple(
            _PartLayout(
                slots=part.keys.shape[2],
                share=batch // part.keys.shape[0],
                masked=part.positions is not None,
            )
            for part in parts
        ),
        rows=min(rows, max(pl.next_power_of_2(group * num_queries), 16)),
        keys=keys,
    )
    grid = pl.cdiv(group * num_queries, layout.rows), batch * kv_heads
    tiles = max(pl.cdiv(part.slots, keys) for part in layout.parts)
    splits = num_splits(grid[0] * grid[1], tiles)

    size = batch * num_queries * heads
    arrays = [q.reshape(size, head_dim), jnp.broadcast_to(query, (query.shape[0], num_queries))]
    arrays += [] if reach is None else [reach]
    for part in parts:
        arrays += [x.reshape(-1, head_dim) for x in (part.keys, part.values)]
        arrays += [] if part.positions is None else [part.positions]
    shapes = (splits, size, head_dim), (splits, size), (splits, size)
    out, top, total = pl.pallas_call(
        functools.partial(_kernel, layout=layout),
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        grid=(*grid, splits),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=2),
        interpret=interpret,
    )(*arrays)
    shrink = jnp.exp(top - top.max(axis=0))
    out = jnp.sum(out * shrink[..., None], axis=0) / jnp.sum(total * shrink, axis=0)[:, None]
    return out.astype(parts[0].values.dtype).reshape(q.shape)


def _forward(
    q: jax.Array,
    parts: tuple[Part, ...],
    query: jax.Array,
    reach: jax.Array | None,
    window: int,
    interpret: bool,
) -> tuple[jax.Array, Callable]:
    def run(q: jax.Array, kv: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
        some = [Part(*kv, part.positions) for kv, part in zip(kv, parts, strict=True)]
        return blockwise_attention.attend(q, some, query, window, reach)

    return jax.vjp(run, q, [(part.keys, part.values) for part in parts])


def _backward(
    window: int, interpret: bool, pullback: Callable, dout: jax.Array
) -> tuple[jax.Array, tuple[Part, ...], None, None]:
    dq, dkv = pullback(dout)
    return dq, tuple(Part(*kv, None) for kv in dkv), None, None


_attend.defvjp(_forward, _backward)


def _kernel(q_ref: jax.Ref, query_ref: jax.Ref, *refs: jax.Ref, layout: _Layout) -> None:
    """Kernel: `refs` are the arrays of every part, then the sums, their top and total."""
    *parts_refs, out_ref, top_ref, total_ref = refs
    reach_refs, parts_refs = parts_refs[: layout.reaching], parts_refs[layout.reaching :]
    block, row, split = (pl.program_id(axis) for axis in range(3))
    batch, kv_head = row // layout.kv_heads, row % layout.kv_heads
    # A KV head has group * T query rows. Here: the program's rows, and where they lie in q and in
    # the results.
    index = block * layout.rows + jnp.arange(layout.rows)
    there = index < layout.group * layout.queries
    token, head = index % layout.queries, kv_head * layout.group + index // layout.queries
    place = (batch * layout.queries + token) * layout.heads + head
    place = jnp.where(there, place, q_ref.shape[0])
    columns = jnp.arange(q_ref.shape[1])[None]
    whole = jnp.broadcast_to(there[:, None], (layout.rows, q_ref.shape[1]))
    q = triton.load(q_ref.at[place[:, None], columns], mask=whole, other=0.0)
    at = batch // layout.query_share, token
    position = triton.load(query_ref.at[at], mask=there, other=0)
    reach = None
    for ref in reach_refs:
        reach = triton.load(ref.at[at], mask=there, other=0)
    queries = _Queries(q, position, reach, batch, kv_head)

    top = jnp.full((layout.rows,), LOWEST_SCORE)
    softmax = RunningSoftmax(top, jnp.zeros_like(top), jnp.zeros(q.shape, jnp.float32))
    for part in layout.parts:
        part_refs, parts_refs = parts_refs[: 2 + part.masked], parts_refs[2 + part.masked :]
        fold = _fold(queries, part_refs, part, layout)
        first, last = share(split, out_ref.shape[0], pl.cdiv(part.slots, layout.keys))
        softmax = jax.lax.fori_loop(first, last, fold, softmax)

    triton.store(out_ref.at[split, place[:, None], columns], softmax.out, mask=whole)
    triton.store(top_ref.at[split, place], softmax.top, mask=there)
    triton.store(total_ref.at[split, place], softmax.total, mask=there)


def _fold(
    queries: _Queries, refs: Sequence[jax.Ref], part: _PartLayout, layout: _Layout
) -> Callable[[jax.Array, RunningSoftmax], RunningSoftmax]:
    """The body of the loop over a part's tiles: (number of the tile, softmax) -> softmax."""
    keys_ref, values_ref, *positions_ref = refs
    q, batch = queries.q, queries.batch // part.share
    columns = jnp.arange(q.shape[1])[None]

    def fold(i: jax.Array, softmax: RunningSoftmax) -> RunningSoftmax:
        slot = i * layout.keys + jnp.arange(layout.keys)
        inside = slot < part.slots
        place = (batch * layout.kv_heads + queries.kv_head) * part.slots + slot
        at = place[:, None], columns
        whole = jnp.broadcast_to(inside[:, None], (slot.size, q.shape[1]))
        keys = triton.load(keys_ref.at[at], mask=whole, other=0.0)
        seen = inside[None]
        for ref in positions_ref:
            key = triton.load(ref.at[batch, slot], mask=inside, other=-1)
            reach = None if queries.reach is None else queries.reach[None]
            seen = masks.visible(queries.position[None], key[None], layout.window, reach)[0]
        scores = jnp.where(seen, dot(q, keys, 1, 1), LOWEST_SCORE)
        top = jnp.maximum(softmax.top, scores.max(axis=1))
        weights, shrink = jnp.exp(scores - top[:, None]), jnp.exp(softmax.top - top)
        values = triton.load(values_ref.at[at], mask=whole, other=0.0)
        out = softmax.out * shrink[:, None] + dot(weights.astype(values.dtype), values, 1, 0)
        return RunningSoftmax(top, softmax.total * shrink + weights.sum(axis=1), out)

    return fold
