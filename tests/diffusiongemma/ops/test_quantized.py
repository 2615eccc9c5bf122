"""Quantized matrices: how far off they are, and products with them against plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.lora import add_lora, linears
from diffusiongemma.moe import MoE
from diffusiongemma.ops import quantized as module
from diffusiongemma.ops.quantized import (
    Quantized,
    QuantizedMatrix,
    dequantize,
    matmul,
    quantize,
    take,
)


def random(*shape: int) -> np.ndarray:
    """A matrix with columns and rows of very different sizes, and a column of zeros."""
    rng = np.random.default_rng(sum(shape))
    kernel = rng.normal(size=shape) * rng.uniform(0.01, 10, shape[-1])
    kernel *= rng.uniform(0.1, 10, (*shape[:-1], 1))
    kernel[..., 1] = 0
    return kernel.astype(np.float32)


def plain(kernel: Quantized) -> np.ndarray:
    """What a quantized matrix or stack stands for, in float64, by the layout's description."""
    values, scales = np.asarray(kernel.values), np.asarray(kernel.scales, np.float64)
    if values.dtype == np.uint8:
        nibbles = np.empty((*values.shape[:-2], 2 * values.shape[-2], values.shape[-1]), np.int64)
        nibbles[..., 0::2, :], nibbles[..., 1::2, :] = values & 15, values >> 4
        values = np.where(nibbles > 7, nibbles - 16, nibbles)
        scales = np.repeat(scales, values.shape[-2] // scales.shape[-2], axis=-2)
    return values * scales


KINDS = [
    ("int8", False, (10, 7), (1, 7)),
    ("int8", False, (3, 9, 5), (3, 1, 5)),
    ("int8", True, (37, 12), (37, 1)),
    ("int4", False, (128, 5), (2, 5)),
    ("int4", False, (3, 192, 4), (3, 3, 4)),
    ("int4", False, (2, 44, 6), (2, 11, 6)),  # 64 does not divide 44, and 4 does
    ("int4", False, (6, 3), (3, 3)),
]


@pytest.mark.parametrize("precision, by_row, shape, scales", KINDS)
def test_weights_are_off_by_half_a_scale_at_most(precision, by_row, shape, scales):
    kernel = random(*shape)
    found = quantize(kernel, precision, by_row=by_row)
    rows = shape[-2] // (2 if precision == "int4" else 1)
    assert found.values.shape == (*shape[:-2], rows, shape[-1]) and found.scales.shape == scales
    dtypes = (np.uint8, jnp.bfloat16) if precision == "int4" else (np.int8, np.float32)
    assert (found.values.dtype, found.scales.dtype) == dtypes
    assert found.precision == precision and found.shape == shape
    back = plain(found)
    np.testing.assert_allclose(dequantize(found, jnp.float32), back, rtol=1e-6)
    step = np.repeat(np.asarray(found.scales, np.float64), shape[-2] // scales[-2], axis=-2)
    assert np.all(np.abs(back - kernel) <= 0.5001 * step)
    # The steps are no wider than the largest weight needs, apart from the rounding of the scale.
    axis, limit = (-1 if by_row else -2), (7 if precision == "int4" else 127)
    assert np.all(step.max(axis) <= 1.005 * np.abs(kernel).max(axis) / limit)
    # Quantizing the result once more changes nothing.
    again = quantize(back.astype(np.float32), precision, by_row=by_row)
    np.testing.assert_allclose(plain(again), back, rtol=1e-2)


def test_pairs_of_rows_share_a_byte_the_even_one_below():
    kernel = np.array([[1, -7], [-2, 3], [7, 0], [-7, -1]], np.float32)
    found = quantize(kernel, "int4")
    np.testing.assert_array_equal(found.scales, [[1, 1]])
    np.testing.assert_array_equal(found.values, [[0xE1, 0x39], [0x97, 0xF0]])


def test_an_odd_number_of_rows_is_no_int4():
    with pytest.raises(ValueError, match="int4 packs rows in pairs, and 9 is odd: take int8"):
        quantize(random(9, 4), "int4")


def close(found, wanted) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


# A table of 37 rows is read in chunks of 37, 10 or 1.
PRODUCTS = [(*kind[:3], None) for kind in KINDS if len(kind[2]) == 2]
PRODUCTS += [("int8", True, (37, 12), chunk) for chunk in (120, 12)]


@pytest.mark.parametrize("precision, by_row, shape, chunk", PRODUCTS)
def test_products_are_those_with_the_dequantized_weights(
    precision, by_row, shape, chunk, monkeypatch
):
    if chunk:
        monkeypatch.setattr(module, "TABLE_CHUNK", chunk)
    kernel = quantize(random(*shape), precision, by_row=by_row)
    weights = plain(kernel)
    rng = np.random.default_rng(1)
    for transpose in (False, True):
        wanted = weights.T if transpose else weights
        x = rng.normal(size=(2, 3, wanted.shape[0])).astype(np.float32)
        dout = rng.normal(size=(2, 3, wanted.shape[1])).astype(np.float32)

        @jax.jit
        def product(x, kernel, dout, transpose=transpose):
            out, pullback = jax.vjp(lambda x: matmul(x, kernel, transpose=transpose), x)
            return out, *pullback(dout)

        out, dx = product(x, kernel, dout)
        close(out, x @ wanted)
        close(dx, dout @ wanted.T)


def test_bfloat16_products_are_summed_up_in_float32():
    kernel = quantize(random(256, 6), "int8")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 256)), jnp.bfloat16)
    found = matmul(x, kernel, dtype=jnp.float32)
    close(found, np.asarray(x, np.float64) @ plain(kernel))  # int8 values are exact in bfloat16
    assert found.dtype == jnp.float32 and matmul(x, kernel).dtype == jnp.bfloat16
    four = quantize(random(256, 6), "int4")
    wanted = np.asarray(x, np.float64) @ np.asarray(dequantize(four, jnp.bfloat16), np.float64)
    close(matmul(x, four, dtype=jnp.float32), wanted)


def test_rows_of_a_table():
    table = quantize(random(37, 12), "int8", by_row=True)
    ids = jnp.array([[0, 36, 5], [5, 1, 2]])
    found = take(table, ids, jnp.float32)
    np.testing.assert_allclose(found, plain(table)[np.asarray(ids)], rtol=1e-6)
    assert take(table, ids, jnp.bfloat16).dtype == jnp.bfloat16


def experts(precision: str, num: int) -> tuple[MoE, MoE]:
    """A mixture with quantized experts and LoRA factors, and one with what these stand for."""
    config = ModelConfig.preset("tiny", num_experts=num, top_k=2, width=64, expert_dim=32)
    pair = tuple(MoE(config, rngs=nnx.Rngs(0)) for _ in range(2))
    for moe in pair:
        add_lora(moe, 2, 4.0, rngs=nnx.Rngs(1), pattern="gate_up|down")
        for layer in (moe.gate_up, moe.down):
            layer.lora_b[...] = 0.1 * jax.random.normal(jax.random.key(2), layer.lora_b.shape)
            kernel = quantize(layer.kernel[...], precision)
            if moe is pair[0]:
                layer.kernel = QuantizedMatrix(kernel, jnp.float32)
            else:
                layer.kernel[...] = jnp.asarray(plain(kernel), jnp.float32)
    return pair


def factor_gradients(moe: MoE):
    """A function of (x, factors, rest) that gives a sum and its gradients; and factors and rest."""
    graphdef, factors, rest = nnx.split(moe, nnx.LoRAParam, ...)

    def total(x, factors, rest):
        return jnp.sum(jnp.sin(nnx.merge(graphdef, factors, rest)(x, x)))

    return jax.jit(jax.value_and_grad(total, (0, 1))), factors, rest


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_mixture_widens_one_expert_at_a_time(precision):
    """It equals a mixture of dequantized experts, forward and backward, and never holds those."""
    quantized, widened = experts(precision, 64)
    x = jax.random.normal(jax.random.key(3), (1, 4, 64))
    function, *state = factor_gradients(quantized)
    program = function.lower(x, *state).compile()
    stacks = sum(4 * np.prod(linear.kernel.shape) for _, linear in linears(quantized))
    assert program.memory_analysis().temp_size_in_bytes < stacks / 4
    function, *others = factor_gradients(widened)
    found, wanted = jax.tree.leaves(program(x, *state)), jax.tree.leaves(function(x, *others))
    assert len(found) == len(wanted) == 1 + 1 + 4
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_loop_widens_nothing_before_it_starts():
    """Nor does it widen all of its matrices at once."""
    kernels = [quantize(random(128, 128), "int8") for _ in range(16)]

    @jax.jit
    def steps(x, kernels):
        def step(i, x):
            for kernel in kernels:
                x = jnp.tanh(matmul(x, kernel))
            return x

        return jax.lax.fori_loop(0, 9, step, x)

    options = {"xla_cpu_scheduler_type": 1}  # see train/memory_plan.py
    memory = steps.lower(jnp.ones((1, 128)), kernels).compile(options).memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 4 * 128 * 128
