"""Grouped matmuls as Pallas kernels for Hopper, which read the weights of each expert once.

Rows lie in blocks of one expert each. With some 16 rows an expert, reading weights is all that
takes time. So a block holds as many rows as nearly every expert has; rows are the narrow side of
the matrix instructions, and weights the wide one. A program makes a column of tiles of the output
of one block and walks along the input. Programs of a block start together, those of the next block
follow: where an expert has several blocks, all but the first find its weights in the L2 cache.

Of quantized weights (kernel_words.py), even and odd outputs are computed apart, and in 4 bits even
and odd inputs multiplied apart. docs/PERFORMANCE.md has the instructions that this takes, beside
those of the alternatives.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.packed_weights import (
    GROUP,
    INPUTS,
    OUTPUTS,
    Weight,
    numbers,
    scale,
    to_words,
)
from diffusiongemma.kernels.tiling import dot

WIDTH = 64  # words of the output in a tile: the rows of one matrix instruction
STEP = 64  # inputs in a tile
LEAST = 16  # of each side of a tile


class Blocks(NamedTuple):
    """Which rows meet which expert.

    Attributes:
      index: [blocks, block] int32, the row in each place; the number of rows and more: none.
      expert: [blocks] int32, each block's expert.
      used: [] int32, blocks with a row in them; they come first.
    """

    index: jax.Array
    expert: jax.Array
    used: jax.Array


def supports(weight: Weight) -> bool:
    """Whether the kernels have tiles for a weight's shape."""
    _, inputs, outputs = weight.shape
    step = GROUP if weight.kind == "int4" else LEAST
    return inputs % step == 0 and outputs % (2 * LEAST * OUTPUTS[weight.kind]) == 0


def matmul(
    x: jax.Array, blocks: Blocks, weight: Weight, *, geglu: bool = False, interpret: bool = False
) -> jax.Array:
    """Rows times the weight of their block's expert, summed in float32.

    Args:
      x: [rows, in], float32 or bfloat16.
      weight: one that `supports` accepts.
      geglu: the outputs are gates, then as many ups; returned is gelu_tanh(gate) * up.
      interpret: run as plain JAX, on any platform.

    Returns:
      [blocks, block, out], or out / 2 with geglu, in x's dtype; zeros in places without a row.
    """
    kind, (_, inputs, outputs) = weight.kind, weight.shape
    halves = 2 if geglu else 1
    size = outputs // OUTPUTS[kind] // halves
    # Where a tile of floats has no second half, it is as wide as two.
    width = _power_of_two(min(size, 2 * WIDTH if kind == "float" and not geglu else WIDTH))
    kernel = functools.partial(
        _matmul_kernel,
        kind=kind,
        step=math.gcd(inputs, STEP) // INPUTS[kind],
        width=width,
        halves=halves,
        interpret=interpret,
    )
    args = _planes(x, INPUTS[kind]), blocks, weight
    return _call(kernel, *args, (size, width, outputs // halves), interpret)


def matmul_transposed(
    dy: jax.Array, blocks: Blocks, weight: Weight, *, interpret: bool = False
) -> jax.Array:
    """Rows times the transposed weight of their block's expert: the gradient of matmul's rows.

    Args:
      dy: [rows, out], the rows of the blocks' places: blocks x block of them.
      blocks: in whose index each place has its own number, or none.

    Returns:
      [blocks, block, in] in dy's dtype, as `matmul`.
    """
    kind, (_, inputs, outputs) = weight.kind, weight.shape
    if kind == "int8":  # each scale is of one output, over which is summed here
        scaled = dy.reshape(*blocks.index.shape, -1) * weight.scales[blocks.expert]
        dy = scaled.reshape(dy.shape).astype(dy.dtype)
    size = inputs // INPUTS[kind]
    width = _power_of_two(min(size, WIDTH))
    kernel = functools.partial(
        _transposed_kernel,
        kind=kind,
        step=math.gcd(outputs // OUTPUTS[kind], STEP),
        width=width,
        interpret=interpret,
    )
    args = _planes(dy, OUTPUTS[kind]), blocks, weight
    return _call(kernel, *args, (size, width, inputs), interpret)


def _call(kernel, x, blocks: Blocks, weight: Weight, tiles, interpret: bool) -> jax.Array:
    """Runs a kernel for all blocks and columns of tiles: (size, width) in words, and outputs."""
    size, width, outputs = tiles
    num_blocks, block = blocks.index.shape
    call = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((num_blocks, block, outputs), x.dtype),
        grid=(-(-size // width), num_blocks),
        compiler_params=triton.CompilerParams(num_warps=4 if block <= 64 else 8, num_stages=4),
        interpret=interpret,
    )
    return call(x, blocks.index, blocks.expert, blocks.used[None], *to_words(weight))


def _matmul_kernel(
    x_ref, index_ref, expert_ref, used_ref, values_ref, *rest, kind, step, width, halves, interpret
):
    *scales_ref, out_ref = rest
    column, block = pl.program_id(0), pl.program_id(1)

    @pl.when(block < used_ref[0])
    def _():
        expert, rows = expert_ref[block], index_ref[block, :]
        num_rows = x_ref.shape[0] // INPUTS[kind]
        there = rows < num_rows
        size = values_ref.shape[2] // halves
        start = _start(column, size, width)

        def walk(k, sums):
            inputs = pl.ds(k * step, step)
            xs = [_load(x_ref, p * num_rows + rows, there, k, step) for p in range(INPUTS[kind])]
            new = []
            for half in range(halves):
                outputs = pl.ds(half * size + start, width)
                words = triton.load(values_ref.at[expert, inputs, outputs])
                if kind == "int4":
                    scales = triton.load(scales_ref[0].at[expert, k, outputs])[None]
                for output in range(OUTPUTS[kind]):
                    total = sums[len(new)]
                    for p, x in enumerate(xs):
                        w = numbers(words, kind, p, output, interpret).astype(x.dtype)
                        if kind == "int4":
                            w = w * scale(scales, output).astype(x.dtype)
                        total += dot(w, x, 0, 1)
                    new.append(total)
            return tuple(new)

        zeros = jnp.zeros((width, rows.shape[0]), jnp.float32)
        sums = jax.lax.fori_loop(
            0, values_ref.shape[1] // step, walk, (zeros,) * (halves * OUTPUTS[kind])
        )
        found = []
        for half in range(halves):
            y = _interleave(sums[half * OUTPUTS[kind] : (half + 1) * OUTPUTS[kind]])
            if kind == "int8":
                place = OUTPUTS[kind] * (half * size + start)
                y = y * triton.load(scales_ref[0].at[expert, pl.ds(place, y.shape[1])])
            found.append(y)
        y = found[0] if halves == 1 else jax.nn.gelu(found[0], approximate=True) * found[1]
        _store(out_ref, block, OUTPUTS[kind] * start, y)

    @pl.when(block >= used_ref[0])
    def _():
        start = _start(column, values_ref.shape[2] // halves, width)
        zeros = jnp.zeros((index_ref.shape[1], OUTPUTS[kind] * width))
        _store(out_ref, block, OUTPUTS[kind] * start, zeros)


def _transposed_kernel(
    dy_ref, index_ref, expert_ref, used_ref, values_ref, *rest, kind, step, width, interpret
):
    *scales_ref, out_ref = rest
    column, block = pl.program_id(0), pl.program_id(1)

    @pl.when(block < used_ref[0])
    def _():
        expert, rows = expert_ref[block], index_ref[block, :]
        num_rows = dy_ref.shape[0] // OUTPUTS[kind]
        there = rows < num_rows
        start = _start(column, values_ref.shape[1], width)
        if kind == "int4":
            groups = (start + jnp.arange(width)) // (GROUP // INPUTS[kind])

        def walk(k, sums):
            outputs = pl.ds(k * step, step)
            dys = [_load(dy_ref, p * num_rows + rows, there, k, step) for p in range(OUTPUTS[kind])]
            words = triton.load(values_ref.at[expert, pl.ds(start, width), outputs])
            if kind == "int4":
                columns = k * step + jnp.arange(step)
                scales = triton.load(scales_ref[0].at[expert, groups[:, None], columns[None]])
            new = []
            for p, total in enumerate(sums):
                for output, dy in enumerate(dys):
                    w = numbers(words, kind, p, output, interpret).astype(dy.dtype)
                    if kind == "int4":
                        w = w * scale(scales, output).astype(dy.dtype)
                    total += dot(w, dy, 1, 1)
                new.append(total)
            return tuple(new)

        zeros = jnp.zeros((width, rows.shape[0]), jnp.float32)
        sums = jax.lax.fori_loop(0, values_ref.shape[2] // step, walk, (zeros,) * INPUTS[kind])
        y = _interleave(sums)
        _store(out_ref, block, INPUTS[kind] * start, y)

    @pl.when(block >= used_ref[0])
    def _():
        start = _start(column, values_ref.shape[1], width)
        zeros = jnp.zeros((index_ref.shape[1], INPUTS[kind] * width))
        _store(out_ref, block, INPUTS[kind] * start, zeros)


def _start(column: jax.Array, size: int, width: int) -> jax.Array:
    """Where a column of tiles starts. The last one overlaps the one before rather than the end."""
    if size % width == 0:
        return column * width
    return pl.multiple_of(jnp.minimum(column * width, size - width), math.gcd(size, width))


def _load(ref, rows: jax.Array, there: jax.Array, k: jax.Array, step: int) -> jax.Array:
    """Step k of the rows [block] of [.., n] -> [block, step]; zeros where there is none."""
    columns = k * step + jnp.arange(step)
    mask = jnp.broadcast_to(there[:, None], (rows.shape[0], step))
    return triton.load(ref.at[rows[:, None], columns[None]], mask=mask, other=0.0)


def _store(ref, block: jax.Array, start: jax.Array, y: jax.Array) -> None:
    triton.store(ref.at[block, :, pl.ds(start, y.shape[1])], y.astype(ref.dtype))


def _interleave(sums) -> jax.Array:
    """[width, block] for every part of a word -> [block, width x parts], parts side by side."""
    if len(sums) == 1:
        return sums[0].T
    return jnp.stack([total.T for total in sums], axis=-1).reshape(sums[0].shape[1], -1)


def _planes(x: jax.Array, parts: int) -> jax.Array:
    """[rows, n] -> [parts x rows, n / parts]: the columns that each part of a word belongs to."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, parts), -1, 0).reshape(parts * x.shape[0], -1)


def _power_of_two(x: int) -> int:
    """The largest one up to x."""
    return 1 << (x.bit_length() - 1)
