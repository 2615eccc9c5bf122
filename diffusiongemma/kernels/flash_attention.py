"""attend.attend as one Pallas kernel for Hopper: its scores never leave the chip (FlashAttention).

A program takes a block of query rows of one KV head and walks over tiles of keys with a running
softmax. A canvas has few rows: there, the keys are shared out among several programs ("splits"),
whose sums are put together afterwards.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.tiling import SUMS, WARPS, dot, num_splits, share
from diffusiongemma.ops import blockwise_attention as plain
from diffusiongemma.ops import masks
from diffusiongemma.ops.blockwise_attention import LOWEST, Part


class _Layout(NamedTuple):
    """What a program knows beside its arrays.

    Attributes:
      queries, heads: T and H.
      group: query heads of a KV head.
      query_share: rows of q that share a row of the queries' positions.
      slots: S of each part.
      shares: rows of q that share a row of each part.
      masked: whether each part has positions.
      rows, keys: query rows of a program, keys of a tile.
    """

    queries: int
    heads: int
    group: int
    query_share: int
    slots: tuple[int, ...]
    shares: tuple[int, ...]
    masked: tuple[bool, ...]
    rows: int
    keys: int

    @property
    def kv_heads(self) -> int:
        return self.heads // self.group


def supports(q: jax.Array, parts: Sequence[Part]) -> bool:
    """Whether the kernel is made for such arrays: bfloat16, heads of a power of two up to 512."""
    arrays = [q, *(part.keys for part in parts)]
    fit = all(x.dtype == jnp.bfloat16 and x.size < 2**31 for x in arrays)  # offsets of 32 bits
    return fit and q.shape[-1] in (16, 32, 64, 128, 256, 512)


def attend(
    q: jax.Array,
    parts: Sequence[Part],
    query: jax.Array,
    window: int,
    *,
    interpret: bool = False,
) -> jax.Array:
    """What attend.attend returns, up to rounding; where gradients are taken, that is computed.

    Args:
      q, parts, query, window: as there.
      interpret: run as plain JAX, on any platform.
    """
    return _attend(q, tuple(parts), query, window, interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attend(q, parts, query, window, interpret):
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
        slots=tuple(part.keys.shape[2] for part in parts),
        shares=tuple(batch // part.keys.shape[0] for part in parts),
        masked=tuple(part.positions is not None for part in parts),
        rows=min(rows, max(pl.next_power_of_2(group * num_queries), 16)),
        keys=keys,
    )
    grid = pl.cdiv(group * num_queries, layout.rows), batch * kv_heads
    tiles = max(pl.cdiv(slots, keys) for slots in layout.slots)
    splits = num_splits(grid[0] * grid[1], tiles)

    size = batch * num_queries * heads
    arrays = [q.reshape(size, head_dim), jnp.broadcast_to(query, (query.shape[0], num_queries))]
    for part in parts:
        arrays += [x.reshape(-1, head_dim) for x in (part.keys, part.values)]
        arrays += [] if part.positions is None else [part.positions]
    shapes = (splits, size, head_dim), (splits, size), (splits, size)
    out, top, total = pl.pallas_call(
        functools.partial(_kernel, layout=layout, window=window),
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        grid=(*grid, splits),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=2),
        interpret=interpret,
    )(*arrays)
    shrink = jnp.exp(top - top.max(axis=0))
    out = jnp.sum(out * shrink[..., None], axis=0) / jnp.sum(total * shrink, axis=0)[:, None]
    return out.astype(parts[0].values.dtype).reshape(q.shape)


def _forward(q, parts, query, window, interpret):
    def run(q, kv):
        some = [Part(*kv, part.positions) for kv, part in zip(kv, parts, strict=True)]
        return plain.attend(q, some, query, window)

    return jax.vjp(run, q, [(part.keys, part.values) for part in parts])


def _backward(window, interpret, pullback, dout):
    dq, dkv = pullback(dout)
    return dq, tuple(Part(*kv, None) for kv in dkv), None


_attend.defvjp(_forward, _backward)


def _kernel(q_ref, query_ref, *refs, layout: _Layout, window: int):
    *parts_refs, out_ref, top_ref, total_ref = refs
    block, row, split = (pl.program_id(axis) for axis in range(3))
    batch, kv_head = row // layout.kv_heads, row % layout.kv_heads
    # A KV head has group * T query rows. Of this program's: where they lie in q and in the results.
    index = block * layout.rows + jnp.arange(layout.rows)
    there = index < layout.group * layout.queries
    token, head = index % layout.queries, kv_head * layout.group + index // layout.queries
    place = (batch * layout.queries + token) * layout.heads + head
    place = jnp.where(there, place, q_ref.shape[0])
    columns = jnp.arange(q_ref.shape[1])[None]
    whole = jnp.broadcast_to(there[:, None], (layout.rows, q_ref.shape[1]))
    q = triton.load(q_ref.at[place[:, None], columns], mask=whole, other=0.0)
    query = triton.load(query_ref.at[batch // layout.query_share, token], mask=there, other=0)

    top = jnp.full((layout.rows,), LOWEST)
    state = top, jnp.zeros_like(top), jnp.zeros(q.shape, jnp.float32)
    for slots, rows, masked in zip(layout.slots, layout.shares, layout.masked, strict=True):
        refs, parts_refs = parts_refs[: 2 + masked], parts_refs[2 + masked :]
        fold = _fold(q, query, window, refs, batch // rows, kv_head, slots, layout)
        first, last = share(split, out_ref.shape[0], pl.cdiv(slots, layout.keys))
        state = jax.lax.fori_loop(first, last, fold, state)

    top, total, out = state
    triton.store(out_ref.at[split, place[:, None], columns], out, mask=whole)
    triton.store(top_ref.at[split, place], top, mask=there)
    triton.store(total_ref.at[split, place], total, mask=there)


def _fold(q, query, window, refs, batch, kv_head, slots: int, layout: _Layout) -> Callable:
    """(number of a tile, state) -> state: a loop's body, for one part."""
    keys_ref, values_ref, *positions_ref = refs
    columns = jnp.arange(q.shape[1])[None]

    def fold(i, state):
        top, total, out = state
        slot = i * layout.keys + jnp.arange(layout.keys)
        inside = slot < slots
        place = (batch * layout.kv_heads + kv_head) * slots + slot
        at = place[:, None], columns
        whole = jnp.broadcast_to(inside[:, None], (slot.size, q.shape[1]))
        keys = triton.load(keys_ref.at[at], mask=whole, other=0.0)
        seen = inside[None]
        for ref in positions_ref:
            key = triton.load(ref.at[batch, slot], mask=inside, other=-1)
            seen = masks.visible(query[None], key[None], window)[0]
        scores = jnp.where(seen, dot(q, keys, 1, 1), LOWEST)
        new = jnp.maximum(top, scores.max(axis=1))
        weights, shrink = jnp.exp(scores - new[:, None]), jnp.exp(top - new)
        values = triton.load(values_ref.at[at], mask=whole, other=0.0)
        out = out * shrink[:, None] + dot(weights.astype(values.dtype), values, 1, 0)
        return new, total * shrink + weights.sum(axis=1), out

    return fold
