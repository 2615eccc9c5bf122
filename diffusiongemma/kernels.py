"""Grouped matmuls as Pallas kernels for Hopper, which read the weights of each expert once.

Rows lie in blocks of one expert each. With some 16 rows an expert, reading weights is all that
takes time. So a block holds as many rows as nearly every expert has; rows are the narrow side of
the matrix instructions, and weights the wide one. A program makes a column of tiles of the output
of one block and walks along the input. Programs of a block start together, those of the next block
follow: where an expert has several blocks, all but the first find its weights in the L2 cache.

The weights of E experts are values [E, in, out], either

  float32 or bfloat16, without scales;
  int8, with scales [E, 1, out]; or
  uint8 [E, in / 2, out], two 4-bit numbers in two's complement, that of an even input in the low
    bits and that of the next input in the high ones; with bfloat16 scales [E, in / GROUP, out].

Quantized values are read as 16-bit words, each of two neighbouring outputs: only elements of 16
bits are loaded straight into the layout of the matrix instructions. Even and odd outputs are then
computed apart, and in 4 bits even and odd inputs multiplied apart. docs/PERFORMANCE.md has the
instructions that this takes, beside those of the alternatives.
"""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

Kind = Literal["float", "int8", "int4"]

GROUP = 64  # inputs that share a scale in 4 bits
WIDTH = 64  # words of the output in a tile: the rows of one matrix instruction
STEP = 64  # inputs in a tile
LEAST = 16  # of each side of a tile
# Of a word.
OUTPUTS: dict[Kind, int] = {"float": 1, "int8": 2, "int4": 2}
INPUTS: dict[Kind, int] = {"float": 1, "int8": 1, "int4": 2}


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


class Weight(NamedTuple):
    """The maps of E experts (see the module)."""

    values: jax.Array
    scales: jax.Array | None = None

    @property
    def kind(self) -> Kind:
        return {"int8": "int8", "uint8": "int4"}.get(self.values.dtype.name, "float")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(E, in, out)."""
        experts, inputs, outputs = self.values.shape
        return experts, inputs * INPUTS[self.kind], outputs


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
      [blocks, block, out], or out / 2 with geglu, in x's dtype. Places without a row mean nothing:
      they are not written.
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
    return call(x, blocks.index, blocks.expert, blocks.used[None], *_words(weight))


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
                        w = _numbers(words, kind, p, output, interpret).astype(x.dtype)
                        if kind == "int4":
                            w = w * _scale(scales, output).astype(x.dtype)
                        total += _dot(w, x, 0)
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
        _store(out_ref.at[block, :, pl.ds(OUTPUTS[kind] * start, y.shape[1])], y, there)


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
                    w = _numbers(words, kind, p, output, interpret).astype(dy.dtype)
                    if kind == "int4":
                        w = w * _scale(scales, output).astype(dy.dtype)
                    total += _dot(w, dy, 1)
                new.append(total)
            return tuple(new)

        zeros = jnp.zeros((width, rows.shape[0]), jnp.float32)
        sums = jax.lax.fori_loop(0, values_ref.shape[2] // step, walk, (zeros,) * INPUTS[kind])
        y = _interleave(sums)
        _store(out_ref.at[block, :, pl.ds(INPUTS[kind] * start, y.shape[1])], y, there)


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


def _store(ref, y: jax.Array, there: jax.Array) -> None:
    triton.store(ref, y.astype(ref.dtype), mask=jnp.broadcast_to(there[:, None], y.shape))


def _dot(w: jax.Array, x: jax.Array, contracted: int) -> jax.Array:
    """Weights [in, out] or [out, in] by the axis contracted, rows [block, in] -> [out, block]."""
    dimensions = (((contracted,), (1,)), ((), ()))
    return jax.lax.dot_general(w, x, dimensions, preferred_element_type=jnp.float32)


def _interleave(sums) -> jax.Array:
    """[width, block] for every part of a word -> [block, width x parts], parts side by side."""
    if len(sums) == 1:
        return sums[0].T
    return jnp.stack([total.T for total in sums], axis=-1).reshape(sums[0].shape[1], -1)


def _planes(x: jax.Array, parts: int) -> jax.Array:
    """[rows, n] -> [parts x rows, n / parts]: the columns that each part of a word belongs to."""
    return jnp.moveaxis(x.reshape(x.shape[0], -1, parts), -1, 0).reshape(parts * x.shape[0], -1)


def _words(weight: Weight) -> tuple[jax.Array, ...]:
    """A weight's arrays as the kernels read them; nothing is copied."""
    if weight.kind == "float":
        return (weight.values,)
    if weight.kind == "int8":
        return _pairs(weight.values, jnp.int16), weight.scales[:, 0]
    return _pairs(weight.values, jnp.int16), _pairs(weight.scales, jnp.int32)


def _pairs(x: jax.Array, dtype) -> jax.Array:
    return jax.lax.bitcast_convert_type(x.reshape(*x.shape[:-1], -1, 2), dtype)


def _scale(words: jax.Array, output: int) -> jax.Array:
    """One of the two bfloat16 scales in each word [..] int32, as float32."""
    bits = words << 16 if output == 0 else words & jnp.int32(-(1 << 16))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


# A bfloat16 has 8 significant bits: of 0x4300 | n it is 128 + n for n < 128, whence whole numbers
# come without a conversion. In 8 bits, the sign chooses what is taken away again, 128 or 256; in 4
# bits the sign bit is turned over, which adds 8. On pairs, in 32 bits, this takes three
# instructions, and a shift; from single numbers the compiler makes three times as many.
_PTX = {
    "int8": (
        "shr.b32 t, $1, {shift}; lop3.b32 a, t, 0x007F007F, 0x43004300, 0xEA; "
        "lop3.b32 b, t, 0x00800080, 0x43004300, 0xEA; sub.bf16x2 $0, a, b;"
    ),
    "int4": (
        "shr.b32 t, $1, {shift}; lop3.b32 a, t, 0x000F000F, 0x43084308, 0x6A; "
        "mov.b32 b, 0x43084308; sub.bf16x2 $0, a, b;"
    ),
}


def _numbers(words: jax.Array, kind: Kind, p: int, output: int, interpret: bool) -> jax.Array:
    """The numbers of input p and an output in each word, exact in bfloat16; floats as they are."""
    if kind == "float":
        return words
    shift = 8 * output + 4 * p
    if not interpret:
        [numbers] = triton.elementwise_inline_asm(
            "{ .reg .b32 t, a, b; " + _PTX[kind].format(shift=shift) + " }",
            args=[words],
            constraints="=r,r",
            pack=2,
            result_shape_dtypes=[jax.ShapeDtypeStruct(words.shape, jnp.bfloat16)],
        )
        return numbers

    def number(bits: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)

    words = jax.lax.shift_right_logical(words, jnp.int16(shift))
    if kind == "int8":
        base = jnp.int16(0x4300)
        return number(words & 0x7F | base) - number(words & 0x80 | base)
    return number(words & 0xF ^ jnp.int16(0x4308)) - jnp.bfloat16(136)


def _power_of_two(x: int) -> int:
    """The largest one up to x."""
    return 1 << (x.bit_length() - 1)
