"""dispatch.group_rows as two Pallas kernels, where XLA makes eleven.

Each expert has a program: one counts its rows, the other puts them into its blocks.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.tiling import WARPS
from diffusiongemma.ops.expert_loop import Groups, num_blocks

CHUNK = 2048  # rows at a time


def group_rows(
    expert_ids: jax.Array, num_experts: int, block: int, *, interpret: bool = False
) -> Groups:
    """What dispatch.group_rows returns.

    Args:
      expert_ids, num_experts, block: as there.
      interpret: run as plain JAX, on any platform.
    """
    rows = expert_ids.shape[0]
    blocks = num_blocks(rows, num_experts, block)
    call = functools.partial(
        pl.pallas_call,
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=interpret,
    )

    def integers(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    counts = call(_count, out_shape=integers(num_experts), grid=num_experts)(expert_ids)
    # One program more has the blocks that nobody uses.
    source, expert, place, used = call(
        functools.partial(_place, block=block),
        out_shape=[integers(blocks * block), integers(blocks), integers(rows), integers(1)],
        grid=num_experts + 1,
    )(expert_ids, counts)
    return Groups(source.reshape(blocks, block), expert, place, used[0])


def _count(ids_ref, count_ref):
    expert = pl.program_id(0)

    def add(i, found):
        return found + (_ids(ids_ref, i)[1] == expert)

    found = jnp.zeros((_chunk(ids_ref.shape[0]),), jnp.int32)
    found = jax.lax.fori_loop(0, pl.cdiv(ids_ref.shape[0], found.size), add, found)
    count_ref[expert] = jnp.sum(found)


def _place(ids_ref, counts_ref, source_ref, expert_ref, place_ref, used_ref, *, block):
    expert, rows, num_experts = pl.program_id(0), ids_ref.shape[0], counts_ref.shape[0]
    places, blocks = source_ref.shape[0], expert_ref.shape[0]
    experts = jnp.arange(pl.next_power_of_2(num_experts))
    counts = triton.load(counts_ref.at[experts], mask=experts < num_experts, other=0)
    padded = (counts + block - 1) // block
    start = jnp.sum(jnp.where(experts < expert, padded, 0))
    stop = jnp.where(
        expert < num_experts, start + jnp.sum(jnp.where(experts == expert, padded, 0)), blocks
    )

    def put(i, place):
        row, ids = _ids(ids_ref, i)
        own = ids == expert
        order = jnp.cumsum(own.astype(jnp.int32))
        to = jnp.where(own, place + order - 1, places)
        triton.store(source_ref.at[to], row, mask=own)
        triton.store(place_ref.at[row], to, mask=own)
        return place + jnp.sum(own.astype(jnp.int32))

    chunk = _chunk(rows)
    end = jax.lax.fori_loop(0, pl.cdiv(rows, chunk), put, start * block)
    _fill(source_ref, end, stop * block, rows)
    _fill(expert_ref, start, stop, jnp.minimum(expert, num_experts - 1))

    @pl.when(expert == num_experts)
    def _():
        used_ref[0] = start


def _chunk(rows: int) -> int:
    return min(pl.next_power_of_2(rows), CHUNK)


def _ids(ids_ref, i) -> tuple[jax.Array, jax.Array]:
    """Numbers of the rows in chunk i, and their experts; -1 beyond the last row."""
    rows = ids_ref.shape[0]
    row = i * _chunk(rows) + jnp.arange(_chunk(rows))
    return row, triton.load(ids_ref.at[row], mask=row < rows, other=-1)


def _fill(ref, start, stop, value) -> None:
    """ref[start:stop] = value."""
    size = min(pl.next_power_of_2(ref.shape[0]), CHUNK)

    def store(i, _):
        at = start + i * size + jnp.arange(size)
        at = jnp.where(at < stop, at, ref.shape[0])
        triton.store(ref.at[at], jnp.full((size,), value, jnp.int32), mask=at < stop)

    jax.lax.fori_loop(0, (stop - start + size - 1) // size, store, None)
