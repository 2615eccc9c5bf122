"""Reductions against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.ops.reductions import argmax, sum_last


def test_argmax_takes_the_first_of_equals():
    x = np.random.default_rng(0).integers(0, 5, (50, 20)).astype(np.float32)
    found = argmax(jnp.array(x))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, x.argmax(-1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_keep_their_axis_and_are_float32(dtype, weighted):
    x = jax.random.normal(jax.random.key(0), (2, 3, 40), dtype)
    weights = jax.random.normal(jax.random.key(1), (40,), dtype) if weighted else None
    found = sum_last(x, weights)
    assert found.shape == (2, 3, 1) and found.dtype == jnp.float32
    factors = 1.0 if weights is None else np.asarray(weights, np.float64)
    wanted = np.sum(np.asarray(x, np.float64) * factors, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
