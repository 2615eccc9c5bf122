"""Two Pallas kernels that sort rows by expert into blocks, where XLA would make eleven kernels.

`group_rows_by_kernel` returns what ops/expert_loop.group_rows returns. Each expert has a program
in both kernels: in the first it counts the expert's rows, in the second it puts them into blocks.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.tiling import WARPS
from diffusiongemma.ops.expert_loop import Blocks, num_blocks

ROWS_AT_ONCE = 2048  # the most rows that a program reads or writes in one step


def group_rows_by_kernel(
    expert_ids: jax.Array, num_experts: int, block: int, *, interpret: bool = False
) -> Blocks:
    """Sorts rows by expert into blocks; equal to expert_loop.group_rows in every number.

    Args:
      expert_ids: [rows] int32 in 0..num_experts - 1.
      num_experts: E.
      block: rows in a block.
      interpret: True runs the kernels as plain JAX, on any platform.
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
    # One more program fills in the blocks that no expert uses.
    row, expert, place, used = call(
        functools.partial(_place, block=block),
        out_shape=[integers(blocks * block), integers(blocks), integers(rows), integers(1)],
        grid=num_experts + 1,
    )(expert_ids, counts)
    return Blocks(row.reshape(blocks, block), expert, used[0], place[:, None])


def _count(ids_ref: jax.Ref, count_ref: jax.Ref) -> None:
    """Kernel: counts the rows of the program's expert."""
    expert = pl.program_id(0)

    def add(i: jax.Array, found: jax.Array) -> jax.Array:
        return found + (_ids(ids_ref, i)[1] == expert)

    found = jnp.zeros((_chunk(ids_ref.shape[0]),), jnp.int32)
    found = jax.lax.fori_loop(0, pl.cdiv(ids_ref.shape[0], found.size), add, found)
    count_ref[expert] = jnp.sum(found)


def _place(
    ids_ref: jax.Ref,
    counts_ref: jax.Ref,
    row_ref: jax.Ref,
    expert_ref: jax.Ref,
    place_ref: jax.Ref,
    used_ref: jax.Ref,
    *,
    block: int,
) -> None:
    """Kernel: puts the rows of the program's expert into its blocks, in their order."""
    expert, rows, num_experts = pl.program_id(0), ids_ref.shape[0], counts_ref.shape[0]
    places, blocks = row_ref.shape[0], expert_ref.shape[0]
    experts = jnp.arange(pl.next_power_of_2(num_experts))
    counts = triton.load(counts_ref.at[experts], mask=experts < num_experts, other=0)
    padded = (counts + block - 1) // block
    start = jnp.sum(jnp.where(experts < expert, padded, 0))
    stop = jnp.where(
        expert < num_experts, start + jnp.sum(jnp.where(experts == expert, padded, 0)), blocks
    )

    def put(i: jax.Array, place: jax.Array) -> jax.Array:
        row, ids = _ids(ids_ref, i)
        own = ids == expert
        order = jnp.cumsum(own.astype(jnp.int32))
        to = jnp.where(own, place + order - 1, places)
        triton.store(row_ref.at[to], row, mask=own)
        triton.store(place_ref.at[row], to, mask=own)
        return place + jnp.sum(own.astype(jnp.int32))

    chunk = _chunk(rows)
    end = jax.lax.fori_loop(0, pl.cdiv(rows, chunk), put, start * block)
    _fill(row_ref, end, stop * block, rows)
    _fill(expert_ref, start, stop, jnp.minimum(expert, num_experts - 1))

    @pl.when(expert == num_experts)
    def _():
        used_ref[0] = start


def _chunk(rows: int) -> int:
    """Rows that a program reads in one step."""
    return min(pl.next_power_of_2(rows), ROWS_AT_ONCE)


def _ids(ids_ref: jax.Ref, i: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The numbers of the rows in chunk i, and their experts; -1 beyond the last row."""
    rows = ids_ref.shape[0]
    row = i * _chunk(rows) + jnp.arange(_chunk(rows))
    return row, triton.load(ids_ref.at[row], mask=row < rows, other=-1)


def _fill(ref: jax.Ref, start: jax.Array, stop: jax.Array, value: jax.Array | int) -> None:
    """ref[start:stop] = value."""
    size = _chunk(ref.shape[0])

    def store(i: jax.Array, _: None) -> None:
        at = start + i * size + jnp.arange(size)
        at = jnp.where(at < stop, at, ref.shape[0])
        triton.store(ref.at[at], jnp.full((size,), value, jnp.int32), mask=at < stop)

    jax.lax.fori_loop(0, (stop - start + size - 1) // size, store, None)
