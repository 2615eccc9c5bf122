"""Matrix products of rows with their expert's weights, as Pallas kernels for Hopper GPUs.

Rows lie in blocks that belong to one expert each (ops/expert_loop.Blocks). With about 16 rows an
expert, reading the weights takes nearly all of the time, so each expert's weights are read once. A
block holds as many rows as nearly every expert has. Rows are the narrow side of the matrix
instructions, and weights are the wide side. A program computes one column of tiles of the output,
and walks along the input. All programs of a block start together, and those of the next block
follow: where an expert has several blocks, all but the first find its weights in the L2 cache.

Quantized weights are read in words (packed_weights.py). Even and odd outputs are then computed
apart, and in 4 bits even and odd inputs are multiplied apart. docs/PERFORMANCE.md compares the
instructions that this takes with those of the alternatives.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from diffusiongemma.kernels.packed_weights import (
    INPUTS,
    OUTPUTS,
    Kind,
    kind_of,
    numbers,
    scale,
    to_words,
)
from diffusiongemma.kernels.tiling import STEP, dot
from diffusiongemma.ops.expert_loop import Blocks
from diffusiongemma.ops.quantized import GROUP, Quantized

WIDTH = 64  # words of the output in a tile: the rows of one matrix instruction
LEAST = 16  # the least length of each side of a tile


class _Tiles(NamedTuple):
    """What a program knows besides its arrays.

    Attributes:
      kind: how the weights are stored.
      step: words of the weights along the summed axis that one step reads.
      width: words of the weights along the output axis in a tile.
      size: words of the weights along the output axis in all; with geglu, of the gates alone.
      parts: outputs of the kernel in one word.
      halves: 2 with geglu, for gates and ups; else 1.
      interpret: True runs the kernel as plain JAX.
    """

    kind: Kind
    step: int
    width: int
    size: int
    parts: int
    halves: int
    interpret: bool


def supports(weight: jax.Array | Quantized) -> bool:
    """Whether the kernels have tiles for the shape of a stack of weights [E, in, out]."""
    _, inputs, outputs = weight.shape
    kind = kind_of(weight)
    step = GROUP if kind == "int4" else LEAST
    return inputs % step == 0 and outputs % (2 * LEAST * OUTPUTS[kind]) == 0


def matmul(
    x: jax.Array,
    blocks: Blocks,
    weight: jax.Array | Quantized,
    *,
    geglu: bool = False,
    interpret: bool = False,
) -> jax.Array:
    """Rows times the weights of their block's expert, summed in float32.

    Args:
      x: [rows, in], float32 or bfloat16.
      blocks: the rows in blocks.
      weight: [E, in, out], one that `supports` accepts.
      geglu: the outputs are gates, then as many ups; the result is gelu_tanh(gate) * up.
      interpret: True runs the kernel as plain JAX, on any platform.

    Returns:
      [blocks, block, out], or out / 2 with geglu, in x's dtype; zeros in empty places.
    """
    kind, (_, inputs, outputs) = kind_of(weight), weight.shape
    halves = 2 if geglu else 1
    size = outputs // OUTPUTS[kind] // halves
    # A tile of floats without a second half is as wide as two.
    widest = 2 * WIDTH if kind == "float" and not geglu else WIDTH
    tiles = _Tiles(
        kind=kind,
        step=math.gcd(inputs, STEP) // INPUTS[kind],
        width=_power_of_two(min(size, widest)),
        size=size,
        parts=OUTPUTS[kind],
        halves=halves,
        interpret=interpret,
    )
    return _call(_matmul_kernel, _planes(x, INPUTS[kind]), blocks, weight, tiles)


def matmul_transposed(
    dy: jax.Array, blocks: Blocks, weight: jax.Array | Quantized, *, interpret: bool = False
) -> jax.Array:
    """Rows times the transposed weights of their block's expert: the gradient of matmul's rows.

    Args:
      dy: [blocks * block, out], a row for every place.
      blocks: as matmul's, but blocks.row holds each place's own number, or marks it as empty.
      weight: as matmul's.
      interpret: as matmul's.

    Returns:
      [blocks, block, in] in dy's dtype; zeros in empty places.
    """
    kind, (_, inputs, outputs) = kind_of(weight), weight.shape
    if kind == "int8":  # each scale belongs to an output, and outputs are summed over here
        scaled = dy.reshape(*blocks.row.shape, -1) * weight.scales[blocks.expert]
        dy = scaled.reshape(dy.shape).astype(dy.dtype)
    size = inputs // INPUTS[kind]
    tiles = _Tiles(
        kind=kind,
        step=math.gcd(outputs // OUTPUTS[kind], STEP),
        width=_power_of_two(min(size, WIDTH)),
        size=size,
        parts=INPUTS[kind],
        halves=1,
        interpret=interpret,
    )
    return _call(_transposed_kernel, _planes(dy, OUTPUTS[kind]), blocks, weight, tiles)


def _call(
    kernel: Callable[..., None],
    x: jax.Array,
    blocks: Blocks,
    weight: jax.Array | Quantized,
    tiles: _Tiles,
) -> jax.Array:
    """Runs a kernel with one program for each column of tiles of each block."""
    num_blocks, block = blocks.row.shape
    # Words of int8 go straight to registers: a copy in shared memory costs more than it hides.
    stages = 1 if tiles.kind == "int8" else 4
    call = pl.pallas_call(
        functools.partial(kernel, tiles=tiles),
        out_shape=jax.ShapeDtypeStruct((num_blocks, block, tiles.size * tiles.parts), x.dtype),
        grid=(-(-tiles.size // tiles.width), num_blocks),
        compiler_params=triton.CompilerParams(num_warps=4 if block <= 64 else 8, num_stages=stages),
        interpret=tiles.interpret,
    )
    return call(x, blocks.row, blocks.expert, blocks.used[None], *to_words(weight))


def _matmul_kernel(
    x_ref: jax.Ref,
    row_ref: jax.Ref,
    expert_ref: jax.Ref,
    used_ref: jax.Ref,
    values_ref: jax.Ref,
    *rest: jax.Ref,
    tiles: _Tiles,
) -> None:
    """Kernel of matmul; `rest` are the scales, if there are any, and the result."""
    *scales_ref, out_ref = rest
    kind, step, width = tiles.kind, tiles.step, tiles.width
    column, block = pl.program_id(0), pl.program_id(1)

    @pl.when(block < used_ref[0])
    def _():
        expert, rows = expert_ref[block], row_ref[block, :]
        num_rows = x_ref.shape[0] // INPUTS[kind]
        there = rows < num_rows
        start = _start(column, tiles)

        def walk(k: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            inputs = pl.ds(k * step, step)
            xs = [_load(x_ref, p * num_rows + rows, there, k, step) for p in range(INPUTS[kind])]
            new = []
            for half in range(tiles.halves):
                outputs = pl.ds(half * tiles.size + start, width)
                words = triton.load(values_ref.at[expert, inputs, outputs])
                if kind == "int4":
                    scales = triton.load(scales_ref[0].at[expert, k, outputs])[None]
                for output in range(OUTPUTS[kind]):
                    total = sums[len(new)]
                    for p, x in enumerate(xs):
                        w = numbers(words, kind, p, output, tiles.interpret).astype(x.dtype)
                        if kind == "int4":
                            w = w * scale(scales, output).astype(x.dtype)
                        total += dot(w, x, 0, 1)
                    new.append(total)
            return tuple(new)

        zeros = jnp.zeros((width, rows.shape[0]), jnp.float32)
        sums = jax.lax.fori_loop(
            0, values_ref.shape[1] // step, walk, (zeros,) * (tiles.halves * OUTPUTS[kind])
        )
        found = []
        for half in range(tiles.halves):
            y = _interleave(sums[half * OUTPUTS[kind] : (half + 1) * OUTPUTS[kind]])
            if kind == "int8":
                place = OUTPUTS[kind] * (half * tiles.size + start)
                y = y * triton.load(scales_ref[0].at[expert, pl.ds(place, y.shape[1])])
            found.append(y)
        y = found[0] if tiles.halves == 1 else jax.nn.gelu(found[0], approximate=True) * found[1]
        _store(out_ref, block, tiles.parts * start, y)

    @pl.when(block >= used_ref[0])
    def _():
        _clear(out_ref, block, column, tiles)


def _transposed_kernel(
    dy_ref: jax.Ref,
    row_ref: jax.Ref,
    expert_ref: jax.Ref,
    used_ref: jax.Ref,
    values_ref: jax.Ref,
    *rest: jax.Ref,
    tiles: _Tiles,
) -> None:
    """Kernel of matmul_transposed; `rest` are the scales, if there are any, and the result."""
    *scales_ref, out_ref = rest
    kind, step, width = tiles.kind, tiles.step, tiles.width
    column, block = pl.program_id(0), pl.program_id(1)

    @pl.when(block < used_ref[0])
    def _():
        expert, rows = expert_ref[block], row_ref[block, :]
        num_rows = dy_ref.shape[0] // OUTPUTS[kind]
        there = rows < num_rows
        start = _start(column, tiles)
        if kind == "int4":
            groups = (start + jnp.arange(width)) // (GROUP // INPUTS[kind])

        def walk(k: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            outputs = pl.ds(k * step, step)
            dys = [_load(dy_ref, p * num_rows + rows, there, k, step) for p in range(OUTPUTS[kind])]
            words = triton.load(values_ref.at[expert, pl.ds(start, width), outputs])
            if kind == "int4":
                columns = k * step + jnp.arange(step)
                scales = triton.load(scales_ref[0].at[expert, groups[:, None], columns[None]])
            new = []
            for p, total in enumerate(sums):
                for output, dy in enumerate(dys):
                    w = numbers(words, kind, p, output, tiles.interpret).astype(dy.dtype)
                    if kind == "int4":
                        w = w * scale(scales, output).astype(dy.dtype)
                    total += dot(w, dy, 1, 1)
                new.append(total)
            return tuple(new)

        zeros = jnp.zeros((width, rows.shape[0]), jnp.float32)
        sums = jax.lax.fori_loop(0, values_ref.shape[2] // step, walk, (zeros,) * INPUTS[kind])
        y = _interleave(sums)
        _store(out_ref, block, tiles.parts * start, y)

    @pl.when(block >= used_ref[0])
    def _():
        _clear(out_ref, block, column, tiles)


def _start(column: jax.Array, tiles: _Tiles) -> jax.Array:
    """The word at which a column of tiles starts.

    Where the tiles do not fit evenly, the last column starts earlier and overlaps the one before,
    so that no tile reaches beyond the end.
    """
    size, width = tiles.size, tiles.width
    if size % width == 0:
        return column * width
    return pl.multiple_of(jnp.minimum(column * width, size - width), math.gcd(size, width))


def _load(ref: jax.Ref, rows: jax.Array, there: jax.Array, k: jax.Array, step: int) -> jax.Array:
    """Step k of the rows [block] of ref [.., n] -> [block, step]; zeros where there is no row."""
    columns = k * step + jnp.arange(step)
    mask = jnp.broadcast_to(there[:, None], (rows.shape[0], step))
    return triton.load(ref.at[rows[:, None], columns[None]], mask=mask, other=0.0)


def _store(ref: jax.Ref, block: jax.Array, start: jax.Array, y: jax.Array) -> None:
    triton.store(ref.at[block, :, pl.ds(start, y.shape[1])], y.astype(ref.dtype))


def _clear(out_ref: jax.Ref, block: jax.Array, column: jax.Array, tiles: _Tiles) -> None:
    """Writes zeros to the result of a block without rows."""
    start = _start(column, tiles)
    zeros = jnp.zeros((out_ref.shape[1], tiles.parts * tiles.width))
    _store(out_ref, block, tiles.parts * start, zeros)


def _interleave(sums: Sequence[jax.Array]) -> jax.Array:
    """[width, block] for every part of a word -> [block, width x parts], parts side by side."""
    if len(sums) == 1:
        return sums[0].T
    return jnp.stack([total.T for total in sums], axis=-1).reshape(sums[0].shape[1], -1)


def _planes(x: jax.Array, parts: int) -> jax.Array:
    """[rows, n] -> [parts x rows, n / parts]: the columns that each part of a word belongs to."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, parts), -1, 0).reshape(parts * x.shape[0], -1)


def _power_of_two(x: int) -> int:
    """The largest power of two up to x."""
    return 1 << (x.bit_length() - 1)
