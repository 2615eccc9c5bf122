"""Products with a chunk of the embedding, as Pallas kernels that read the chunk where it lies.

The head (head.py) reads the embedding in a loop over chunks. XLA would copy each chunk before it
multiplies with it: 3 GB in one denoising step of the 26B model.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.tiling import STEP, SUMS, WARPS, dot, num_splits, share


class _Layout(NamedTuple):
    """What is known of a product when it is compiled; see `product`."""

    size: int
    transpose: bool
    interpret: bool


class _Tile(NamedTuple):
    """Shape of a program's tile of the result, and the tokens in a chunk of the embedding."""

    rows: int
    width: int
    size: int


def supports(x: jax.Array, table: jax.Array) -> bool:
    """Whether there are kernels for rows x [.., D] and an embedding's values [V, D].

    The rows must be bfloat16, the values bfloat16 or int8.
    """
    fit = x.dtype == jnp.bfloat16 and table.dtype in (jnp.bfloat16, jnp.int8)
    return fit and table.size < 2**31 and all(n % 128 == 0 for n in table.shape)


def product(
    x: jax.Array,
    table: jax.Array,
    chunk: jax.Array,
    *,
    size: int,
    transpose: bool,
    interpret: bool = False,
) -> jax.Array:
    """x times table[chunk * size : (chunk + 1) * size], or times its transpose, in float32.

    Gradients are those of XLA's product; integers get none.

    Args:
      x: [B, C, size]; [B, C, D] with transpose.
      table: [V, D], in x's dtype, or int8 without its scales.
      chunk: [] int32, the number of the chunk.
      size: tokens in a chunk.
      transpose: whether to multiply by the chunk's transpose.
      interpret: True runs the kernel as plain JAX, on any platform.

    Returns:
      [B, C, D]; [B, C, size] with transpose. float32.
    """
    return _product(_Layout(size, transpose, interpret), x, table, chunk)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(layout: _Layout, x: jax.Array, table: jax.Array, chunk: jax.Array) -> jax.Array:
    flat = x.reshape(-1, x.shape[-1])
    multiply = _times_transposed if layout.transpose else _times
    return multiply(layout, flat, table, chunk).reshape(*x.shape[:2], -1)


def _forward(
    layout: _Layout, x: jax.Array, table: jax.Array, chunk: jax.Array
) -> tuple[jax.Array, Callable]:
    def run(x: jax.Array, table: jax.Array = table) -> jax.Array:
        rows = jax.lax.dynamic_slice_in_dim(table, chunk * layout.size, layout.size)
        rows = rows.astype(x.dtype)
        rows = rows.T if layout.transpose else rows
        return jnp.matmul(x, rows, preferred_element_type=jnp.float32)

    return jax.vjp(run, x, *([table] if jnp.issubdtype(table.dtype, jnp.floating) else []))


def _backward(
    layout: _Layout, pullback: Callable, dout: jax.Array
) -> tuple[jax.Array, jax.Array | None, None]:
    dx, *dtable = pullback(dout)
    return dx, dtable[0] if dtable else None, None


_product.defvjp(_forward, _backward)


def _times_transposed(
    layout: _Layout, x: jax.Array, table: jax.Array, chunk: jax.Array
) -> jax.Array:
    """[n, D] -> [n, size]. A program takes all rows if they fit: then each part is read once."""
    width = 128
    tile = _Tile(_rows(x.shape[0], width), width, layout.size)
    return pl.pallas_call(
        functools.partial(_transposed_kernel, tile=tile),
        out_shape=jax.ShapeDtypeStruct((x.shape[0], tile.size), jnp.float32),
        grid=(pl.cdiv(x.shape[0], tile.rows), tile.size // width),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=4),
        interpret=layout.interpret,
    )(x, table, chunk[None])


def _transposed_kernel(
    x_ref: jax.Ref, table_ref: jax.Ref, chunk_ref: jax.Ref, out_ref: jax.Ref, *, tile: _Tile
) -> None:
    row, column = pl.program_id(0), pl.program_id(1)
    start = chunk_ref[0] * tile.size + column * tile.width

    def walk(k: jax.Array, total: jax.Array) -> jax.Array:
        inputs = pl.ds(k * STEP, STEP)
        part = triton.load(table_ref.at[pl.ds(start, tile.width), inputs]).astype(x_ref.dtype)
        return total + dot(_load(x_ref, row, tile.rows, k), part, 1, 1)

    total = jnp.zeros((tile.rows, tile.width), jnp.float32)
    total = jax.lax.fori_loop(0, x_ref.shape[1] // STEP, walk, total)
    _store(out_ref, (), row, column, total)


def _times(layout: _Layout, x: jax.Array, table: jax.Array, chunk: jax.Array) -> jax.Array:
    """[n, size] -> [n, D]. The sums are split among as many programs as keep a GPU busy."""
    width = next(n for n in (256, 128) if table.shape[1] % n == 0)
    tile = _Tile(_rows(x.shape[0], width), width, layout.size)
    grid = pl.cdiv(x.shape[0], tile.rows), table.shape[1] // width
    splits = num_splits(grid[0] * grid[1], tile.size // STEP)
    return pl.pallas_call(
        functools.partial(_kernel, tile=tile),
        out_shape=jax.ShapeDtypeStruct((splits, x.shape[0], table.shape[1]), jnp.float32),
        grid=(*grid, splits),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=4),
        interpret=layout.interpret,
    )(x, table, chunk[None]).sum(axis=0)


def _kernel(
    x_ref: jax.Ref, table_ref: jax.Ref, chunk_ref: jax.Ref, out_ref: jax.Ref, *, tile: _Tile
) -> None:
    row, column, split = (pl.program_id(axis) for axis in range(3))

    def walk(k: jax.Array, total: jax.Array) -> jax.Array:
        inputs = pl.ds(chunk_ref[0] * tile.size + k * STEP, STEP)
        columns = pl.ds(column * tile.width, tile.width)
        part = triton.load(table_ref.at[inputs, columns]).astype(x_ref.dtype)
        return total + dot(_load(x_ref, row, tile.rows, k), part, 1, 0)

    first, last = share(split, out_ref.shape[0], tile.size // STEP)
    zeros = jnp.zeros((tile.rows, tile.width), jnp.float32)
    _store(out_ref, (split,), row, column, jax.lax.fori_loop(first, last, walk, zeros))


def _rows(num: int, width: int) -> int:
    """Rows of a tile."""
    return min(max(pl.next_power_of_2(num), 16), SUMS // width)


def _load(x_ref: jax.Ref, tile: jax.Array, rows: int, k: jax.Array) -> jax.Array:
    """Step k of the rows of tile number `tile`: [rows, STEP]; zeros beyond the last row."""
    row, columns = tile * rows + jnp.arange(rows), k * STEP + jnp.arange(STEP)
    mask = jnp.broadcast_to((row < x_ref.shape[0])[:, None], (rows, STEP))
    return triton.load(x_ref.at[row[:, None], columns[None]], mask=mask, other=0.0)


def _store(
    out_ref: jax.Ref, split: tuple[jax.Array, ...], tile: jax.Array, column: jax.Array, y: jax.Array
) -> None:
    """Writes a tile y; `split` is the index of its split, () if the sums are not split."""
    rows, width = y.shape
    row, columns = tile * rows + jnp.arange(rows), column * width + jnp.arange(width)
    mask = jnp.broadcast_to((row < out_ref.shape[-2])[:, None], y.shape)
    triton.store(out_ref.at[(*split, row[:, None], columns[None])], y, mask=mask)
