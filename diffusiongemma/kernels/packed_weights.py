"""Weights of experts as the kernels read them: floats, or quantized numbers in words.

The weights of E experts are values [E, in, out], either

  float32 or bfloat16, without scales;
  int8, with scales [E, 1, out]; or
  uint8 [E, in / 2, out], two 4-bit numbers in two's complement, that of an even input in the low
    bits and that of the next input in the high ones; with bfloat16 scales [E, in / GROUP, out].

Quantized values are read as 16-bit words, each of two neighbouring outputs: only elements of 16
bits are loaded straight into the layout of the matrix instructions.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton

Kind = Literal["float", "int8", "int4"]

GROUP = 64  # inputs that share a scale in 4 bits
# Of a word.
OUTPUTS: dict[Kind, int] = {"float": 1, "int8": 2, "int4": 2}
INPUTS: dict[Kind, int] = {"float": 1, "int8": 1, "int4": 2}


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


def to_words(weight: Weight) -> tuple[jax.Array, ...]:
    """A weight's arrays as the kernels read them; nothing is copied."""
    if weight.kind == "float":
        return (weight.values,)
    if weight.kind == "int8":
        return _pairs(weight.values, jnp.int16), weight.scales[:, 0]
    return _pairs(weight.values, jnp.int16), _pairs(weight.scales, jnp.int32)


def _pairs(x: jax.Array, dtype) -> jax.Array:
    return jax.lax.bitcast_convert_type(x.reshape(*x.shape[:-1], -1, 2), dtype)


def scale(words: jax.Array, output: int) -> jax.Array:
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


def numbers(words: jax.Array, kind: Kind, p: int, output: int, interpret: bool) -> jax.Array:
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
