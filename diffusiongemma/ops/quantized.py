"""Quantized matrices: small integers with scales, and products that read them as they are stored.

    int8   values int8 [.., in, out]; a float32 scale for each output channel [.., 1, out]. An
           embedding [V, D] has a scale for each token instead [V, 1].
    int4   values uint8 [.., in / 2, out]: the rows 2i and 2i + 1 in the low and in the high four
           bits, two's complement; a bfloat16 scale for each group of 64 rows [.., in / 64, out].
           Where 64 does not divide `in`, a group is the largest power of two that does.

Both are symmetric: value = round(weight / scale) with scale = max |weight| / 127, or / 7 in int4,
so a weight is off by half a scale at most. Everything static follows from shapes and dtypes, so
jax.tree.map can take slices of stacks.
"""

import functools
import math
from types import EllipsisType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

Precision = Literal["int8", "int4"]
GROUP = 64  # rows that share a scale in int4
# Elements of a table that are widened at once. A whole table would take many times its own size.
TABLE_CHUNK = 1 << 26


class Quantized(NamedTuple):
    """A quantized matrix, or a stack of them, stored as the module's docstring says.

    Attributes:
      values: the integers, int8 or uint8.
      scales: float32 or bfloat16.
    """

    values: jax.Array
    scales: jax.Array

    @property
    def precision(self) -> Precision:
        return "int4" if self.values.dtype == jnp.uint8 else "int8"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix or stack that it stands for."""
        *stack, rows, columns = self.values.shape
        return (*stack, 2 * rows if self.precision == "int4" else rows, columns)


class QuantizedParam(nnx.Variable):
    """Values or scales. It is no nnx.Param, so that training leaves it alone."""


class QuantizedMatrix(nnx.Module):
    """A module in the place of a matrix' nnx.Param; matrix[...] gives the Quantized.

    Attributes:
      values: the integers.
      scales: their scales.
      dtype: dtype of the weights that it stands for; activations from an embedding have it too.
    """

    def __init__(self, quantized: Quantized, dtype: DTypeLike):
        self.values = QuantizedParam(quantized.values)
        self.scales = QuantizedParam(quantized.scales)
        self.dtype = jnp.dtype(dtype)

    def __getitem__(self, index: EllipsisType) -> Quantized:
        return Quantized(self.values.get_value(), self.scales.get_value())

    @property
    def shape(self) -> tuple[int, ...]:
        return self[...].shape


@functools.partial(jax.jit, static_argnames=("precision", "by_row"))
def quantize(kernel: jax.Array, precision: Precision, *, by_row: bool = False) -> Quantized:
    """Quantizes a matrix or a stack of them.

    Args:
      kernel: [.., in, out], any float dtype.
      precision: "int8" or "int4".
      by_row: True gives each row a scale, for an embedding; int8 only.

    Raises:
      ValueError: the precision is int4, and the number of rows is odd.
    """
    kernel = kernel.astype(jnp.float32)
    if precision == "int8":
        largest = jnp.max(jnp.abs(kernel), axis=-1 if by_row else -2, keepdims=True)
        scales = largest / 127
        return Quantized(_rounded(kernel, scales, 127), scales)
    *stack, rows, columns = kernel.shape
    grouped = kernel.reshape(*stack, rows // group_size(rows), -1, columns)
    scales = (jnp.max(jnp.abs(grouped), axis=-2) / 7).astype(jnp.bfloat16)
    values = _rounded(grouped, scales.astype(jnp.float32)[..., None, :], 7)
    pairs = values.reshape(*stack, rows // 2, 2, columns).astype(jnp.uint8)
    return Quantized((pairs[..., 0, :] & 15) | (pairs[..., 1, :] << 4), scales)


def group_size(rows: int) -> int:
    """How many of a matrix' rows share a scale in int4.

    Raises:
      ValueError: the number of rows is odd, so they cannot be packed in pairs.
    """
    if rows % 2:
        raise ValueError(f"int4 packs rows in pairs, and {rows} is odd: take int8")
    return math.gcd(rows, GROUP)


def dequantize(kernel: Quantized, dtype: DTypeLike) -> jax.Array:
    """The matrix or stack [.., in, out] that a quantized one stands for, in `dtype`."""
    values, scales = kernel.values, kernel.scales.astype(jnp.float32)
    if kernel.precision == "int4":
        *stack, _, columns = values.shape
        pairs = jnp.stack([values & 15, values >> 4], axis=-2).astype(jnp.int8)
        # [.., groups, rows of a group, out]; the sign is the highest of a number's four bits.
        values = ((pairs ^ 8) - 8).reshape(*stack, scales.shape[-2], -1, columns)
        scales = scales[..., None, :]
    return (values * scales).reshape(kernel.shape).astype(dtype)


def take(table: jax.Array | Quantized, rows: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Rows of an embedding.

    Args:
      table: [V, D], plain or int8.
      rows: [B, T] int32.
      dtype: dtype of the result.

    Returns:
      [B, T, D].
    """
    taken = jax.tree.map(lambda a: a[rows], table)
    return dequantize(taken, dtype) if isinstance(taken, Quantized) else taken.astype(dtype)


def matmul(
    x: jax.Array,
    kernel: jax.Array | Quantized,
    *,
    transpose: bool = False,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """x @ kernel, summed in float32 if the kernel is quantized.

    A quantized kernel is widened to x's dtype where it is used and no sooner, in the backward pass
    too. Scales along the result are applied to the result. Quantized kernels get no gradient.

    Args:
      x: [..., in].
      kernel: [in, out], plain or quantized; [out, in] with transpose.
      transpose: whether to multiply by the kernel's transpose.
      dtype: dtype of the result. None takes x's; with a plain kernel, the wider one of both.

    Returns:
      [..., out].
    """
    if isinstance(kernel, Quantized):
        return _matmul(x, kernel, transpose, x.dtype if dtype is None else dtype)
    wider = jnp.result_type(x, kernel)
    dtype = wider if dtype is None else dtype
    return _dot(x.astype(wider), kernel.astype(wider), transpose, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _matmul(x: jax.Array, kernel: Quantized, transpose: bool, dtype: DTypeLike) -> jax.Array:
    # Without this, XLA would move the widening of all matrices out of a loop that uses them.
    kernel, x = jax.lax.optimization_barrier((kernel, x))
    if kernel.precision == "int4":
        return _dot(x, dequantize(kernel, x.dtype), transpose, dtype)
    by_row = kernel.scales.shape[1] == 1
    if by_row and math.prod(kernel.shape) > TABLE_CHUNK:
        return _by_chunks(x, kernel, transpose, dtype)
    return _scaled_dot(x, kernel, transpose, by_row).astype(dtype)


def _forward(
    x: jax.Array, kernel: Quantized, transpose: bool, dtype: DTypeLike
) -> tuple[jax.Array, tuple[Quantized, jax.Array]]:
    # An array of size 0 carries x's dtype.
    return _matmul(x, kernel, transpose, dtype), (kernel, jnp.zeros((0,), x.dtype))


def _backward(
    transpose: bool, dtype: DTypeLike, residuals: tuple[Quantized, jax.Array], dout: jax.Array
) -> tuple[jax.Array, None]:
    kernel, like = residuals
    return _matmul(dout.astype(like.dtype), kernel, not transpose, like.dtype), None


_matmul.defvjp(_forward, _backward)


def _scaled_dot(x: jax.Array, kernel: Quantized, transpose: bool, by_row: bool) -> jax.Array:
    """The product with an int8 kernel, in float32."""
    scales = kernel.scales.reshape(-1)
    if by_row == transpose:  # scales along the result
        return _dot(x, kernel.values.astype(x.dtype), transpose, jnp.float32) * scales
    x = (x * scales).astype(x.dtype)
    return _dot(x, kernel.values.astype(x.dtype), transpose, jnp.float32)


def _by_chunks(x: jax.Array, table: Quantized, transpose: bool, dtype: DTypeLike) -> jax.Array:
    """The product with a table [V, D], which is widened in chunks of rows."""
    num, width = table.shape
    size = TABLE_CHUNK // width
    out = jnp.zeros(
        (*x.shape[:-1], num if transpose else width), dtype if transpose else jnp.float32
    )

    def add(out: jax.Array, start: jax.Array | int, size: int) -> jax.Array:
        rows = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), table)
        if transpose:
            part = _scaled_dot(x, rows, transpose, by_row=True).astype(dtype)
            return jax.lax.dynamic_update_slice_in_dim(out, part, start, axis=-1)
        part = jax.lax.dynamic_slice_in_dim(x, start, size, axis=-1)
        return out + _scaled_dot(part, rows, transpose, by_row=True)

    out = jax.lax.fori_loop(0, num // size, lambda i, out: add(out, i * size, size), out)
    if num % size:
        out = add(out, num - num % size, num % size)
    return out.astype(dtype)


def _dot(x: jax.Array, kernel: jax.Array, transpose: bool, dtype: DTypeLike) -> jax.Array:
    contract = (((x.ndim - 1,), (1 if transpose else 0,)), ((), ()))
    return jax.lax.dot_general(x, kernel, contract, preferred_element_type=dtype)


def _rounded(x: jax.Array, scales: jax.Array, limit: int) -> jax.Array:
    """x / scales as int8 from -limit to limit; 0 where the scale is 0."""
    steps = jnp.round(x / jnp.where(scales > 0, scales, 1))
    return jnp.clip(steps, -limit, limit).astype(jnp.int8)
