"""Shared by the tests of kernels: random weights of E experts in every kind of storage."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from diffusiongemma.ops.quantized import GROUP, Quantized

E = 5
KINDS = ("float32", "bfloat16", "int8", "int4")


def make(kind: str, inputs: int, outputs: int) -> tuple[jax.Array | Quantized, np.ndarray]:
    """A random stack of weights, and the float32 matrices [E, in, out] that it stands for."""
    rng = np.random.default_rng(inputs + outputs)
    shape = (E, inputs, outputs)
    if kind == "int8":
        values = rng.integers(-128, 128, shape, np.int8)
        scales = rng.uniform(0.5, 1.5, (E, 1, outputs)).astype(np.float32) / 500
        return Quantized(jnp.asarray(values), jnp.asarray(scales)), values * scales
    if kind == "int4":
        values = rng.integers(-8, 8, shape)
        packed = (values[:, 0::2] & 15) | (values[:, 1::2] & 15) << 4
        scales = rng.uniform(0.5, 1.5, (E, inputs // GROUP, outputs)) / 50
        scales = scales.astype(ml_dtypes.bfloat16)
        weight = Quantized(jnp.asarray(packed, jnp.uint8), jnp.asarray(scales))
        return weight, values * np.repeat(scales.astype(np.float32), GROUP, axis=1)
    values = jnp.asarray(rng.normal(size=shape) / inputs**0.5, kind)
    return values, np.asarray(values, np.float32)
