"""Products with a chunk of the embedding as Pallas kernels, which read it where it lies.

Of a chunk that a loop chooses, XLA makes a copy first: 3 GB a denoising step of the 26B.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.tiling import SUMS, WARPS, dot, num_splits, share

STEP = 64  # of what is summed over, at a time


def supports(x: jax.Array, table: jax.Array) -> bool:
    """Whether there are kernels for rows x [.., D], bfloat16, and a table [V, D], that or int8."""
    fit = x.dtype == jnp.bfloat16 and table.dtype in (jnp.bfloat16, jnp.int8)
    return fit and table.size < 2**31 and all(n % 128 == 0 for n in table.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def product(
    x: jax.Array, table: jax.Array, chunk: jax.Array, size: int, transpose: bool, interpret: bool
) -> jax.Array:
    """x times table[chunk * size : (chunk + 1) * size], or that transposed; summed in float32.

    Gradients are those of XLA's product, and none of integers.

    Args:
      x: [B, C, size], or transposed [B, C, D].
      table: [V, D], in x's dtype or int8, without scales.
      chunk: [] int32.
      interpret: run as plain JAX, on any platform.

    Returns:
      [B, C, D], or transposed [B, C, size], float32.
    """
    flat = x.reshape(-1, x.shape[-1])
    multiply = _times_transposed if transpose else _times
    return multiply(flat, table, chunk, size, interpret).reshape(*x.shape[:2], -1)


def _forward(x, table, chunk, size, transpose, interpret):
    def run(x, table=table):
        rows = jax.lax.dynamic_slice_in_dim(table, chunk * size, size).astype(x.dtype)
        return jnp.matmul(x, rows.T if transpose else rows, preferred_element_type=jnp.float32)

    return jax.vjp(run, x, *([table] if jnp.issubdtype(table.dtype, jnp.floating) else []))


def _backward(size, transpose, interpret, pullback, dout):
    dx, *dtable = pullback(dout)
    return dx, dtable[0] if dtable else None, None


product.defvjp(_forward, _backward)


def _times_transposed(x, table, chunk, size, interpret):
    """[n, D] -> [n, size]; a program has all rows if they fit, so that it alone reads its part."""
    width = 128
    rows = _rows(x.shape[0], width)
    return pl.pallas_call(
        functools.partial(_transposed_kernel, rows=rows, width=width, size=size),
        out_shape=jax.ShapeDtypeStruct((x.shape[0], size), jnp.float32),
        grid=(pl.cdiv(x.shape[0], rows), size // width),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=4),
        interpret=interpret,
    )(x, table, chunk[None])


def _transposed_kernel(x_ref, table_ref, chunk_ref, out_ref, *, rows, width, size):
    tile, column = pl.program_id(0), pl.program_id(1)
    start = chunk_ref[0] * size + column * width

    def walk(k, total):
        inputs = pl.ds(k * STEP, STEP)
        part = triton.load(table_ref.at[pl.ds(start, width), inputs]).astype(x_ref.dtype)
        return total + dot(_load(x_ref, tile, rows, k), part, 1, 1)

    total = jnp.zeros((rows, width), jnp.float32)
    total = jax.lax.fori_loop(0, x_ref.shape[1] // STEP, walk, total)
    _store(out_ref, (), tile, column, total)


def _times(x, table, chunk, size, interpret):
    """[n, size] -> [n, D]; the sums are split among as many programs as keep a GPU busy."""
    width = next(n for n in (256, 128) if table.shape[1] % n == 0)
    rows = _rows(x.shape[0], width)
    grid = pl.cdiv(x.shape[0], rows), table.shape[1] // width
    splits = num_splits(grid[0] * grid[1], size // STEP)
    return pl.pallas_call(
        functools.partial(_kernel, rows=rows, width=width, size=size),
        out_shape=jax.ShapeDtypeStruct((splits, x.shape[0], table.shape[1]), jnp.float32),
        grid=(*grid, splits),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=4),
        interpret=interpret,
    )(x, table, chunk[None]).sum(axis=0)


def _kernel(x_ref, table_ref, chunk_ref, out_ref, *, rows, width, size):
    tile, column, split = (pl.program_id(axis) for axis in range(3))

    def walk(k, total):
        inputs = pl.ds(chunk_ref[0] * size + k * STEP, STEP)
        columns = pl.ds(column * width, width)
        part = triton.load(table_ref.at[inputs, columns]).astype(x_ref.dtype)
        return total + dot(_load(x_ref, tile, rows, k), part, 1, 0)

    first, last = share(split, out_ref.shape[0], size // STEP)
    total = jax.lax.fori_loop(first, last, walk, jnp.zeros((rows, width), jnp.float32))
    _store(out_ref, (split,), tile, column, total)


def _rows(num: int, width: int) -> int:
    """Rows of a program."""
    return min(max(pl.next_power_of_2(num), 16), SUMS // width)


def _load(x_ref, tile, rows: int, k) -> jax.Array:
    """Step k of a tile's rows: [rows, STEP]; zeros beyond the last row."""
    row, columns = tile * rows + jnp.arange(rows), k * STEP + jnp.arange(STEP)
    mask = jnp.broadcast_to((row < x_ref.shape[0])[:, None], (rows, STEP))
    return triton.load(x_ref.at[row[:, None], columns[None]], mask=mask, other=0.0)


def _store(out_ref, split: tuple, tile, column, y: jax.Array) -> None:
    rows, width = y.shape
    row, columns = tile * rows + jnp.arange(rows), column * width + jnp.arange(width)
    mask = jnp.broadcast_to((row < out_ref.shape[-2])[:, None], y.shape)
    triton.store(out_ref.at[(*split, row[:, None], columns[None])], y, mask=mask)
