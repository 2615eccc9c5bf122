"""Building blocks whose gradients are written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.layers import rms_norm

EPS = 1e-2  # large, so that a missing epsilon shows


def plain(x, scale):
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + EPS) * scale.astype(jnp.float32)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 4, 7)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rms_norm_and_its_gradients(shape, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    x, scale = (jax.random.normal(k, s, dtype) for k, s in zip(keys, (shape, (7,)), strict=False))
    direction = jax.random.normal(keys[2], shape)

    def run(norm):
        total, grads = jax.value_and_grad(
            lambda x, scale: jnp.sum(norm(x, scale) * direction), (0, 1)
        )(x, scale)
        assert [g.dtype for g in grads] == [dtype, dtype]
        return total, *grads

    found, expected = run(lambda x, scale: rms_norm(x, EPS, scale)), run(plain)
    np.testing.assert_allclose(found[0], expected[0], 1e-5, 1e-5)
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-2  # the result is rounded once
    for a, b in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(*(np.float32(v) for v in (a, b)), tolerance, tolerance)


def test_rms_norm_without_a_scale():
    x = jax.random.normal(jax.random.key(0), (3, 7))
    found, expected = (
        jax.value_and_grad(lambda x, norm=norm: jnp.sum(norm(x) ** 3))(x)
        for norm in (lambda x: rms_norm(x, EPS), lambda x: plain(x, jnp.ones(7)))
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], 1e-5, 1e-5)
