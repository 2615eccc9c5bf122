"""How the expert kernels read weights: floats as they are, quantized ones as 16-bit words.

The weights of E experts are an array [E, in, out] of floats, or a Quantized (ops/quantized.py) that
stands for one. A quantized stack is read in words of two neighbouring outputs, because only
16-bit elements can be loaded straight into the layout of the matrix instructions. A word holds

    int8   the numbers of two outputs for one input
    int4   the numbers of two outputs for two inputs: an even input in the low four bits of each
           byte, the next input in the high ones

and a word of int4's scales holds the two bfloat16 scales of its outputs.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton

from diffusiongemma.ops.quantized import Quantized

Kind = Literal["float", "int8", "int4"]

# Outputs and inputs that one word holds.
OUTPUTS: dict[Kind, int] = {"float": 1, "int8": 2, "int4": 2}
INPUTS: dict[Kind, int] = {"float": 1, "int8": 1, "int4": 2}


def kind_of(weight: jax.Array | Quantized) -> Kind:
    """How a stack of weights is stored."""
    return weight.precision if isinstance(weight, Quantized) else "float"


def to_words(weight: jax.Array | Quantized) -> tuple[jax.Array, ...]:
    """The arrays of a stack [E, in, out] as the kernels read them; nothing is copied.

    Returns:
      floats: the stack alone.
      int8: words [E, in, out / 2] int16, and scales [E, out] float32.
      int4: words [E, in / 2, out / 2] int16, and words of scales [E, in / GROUP, out / 2] int32.
    """
    if not isinstance(weight, Quantized):
        return (weight,)
    if weight.precision == "int8":
        return _pairs(weight.values, jnp.int16), weight.scales[:, 0]
    return _pairs(weight.values, jnp.int16), _pairs(weight.scales, jnp.int32)


def _pairs(x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    return jax.lax.bitcast_convert_type(x.reshape(*x.shape[:-1], -1, 2), dtype)


def scale(words: jax.Array, output: int) -> jax.Array:
    """One of the two bfloat16 scales in each word.

    Args:
      words: [..] int32.
      output: 0 or 1, the output in the word.

    Returns:
      [..] float32.
    """
    bits = words << 16 if output == 0 else words & jnp.int32(-(1 << 16))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


# A bfloat16 has 8 significant bits: the bits 0x4300 | n are 128 + n for n < 128. That makes whole
# numbers without a conversion. In 8 bits, the sign chooses what is subtracted again, 128 or 256. In
# 4 bits, the sign bit is flipped, which adds 8. On pairs of numbers, in 32 bits, this takes three
# instructions and a shift. From single numbers the compiler makes three times as many.
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
    """The number of one input and one output in each word, exact in bfloat16.

    Args:
      words: [..] int16; floats are returned as they are.
      kind: how the weights are stored.
      p: the input in the word, below INPUTS[kind].
      output: the output in the word, below OUTPUTS[kind].
      interpret: True for plain JAX instead of PTX.

    Returns:
      [..] bfloat16.
    """
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
