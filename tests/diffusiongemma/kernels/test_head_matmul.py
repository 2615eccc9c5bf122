"""Products with a chunk of the embedding, run as plain JAX, against numpy's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.kernels import tiling
from diffusiongemma.kernels.head_matmul import product, supports
from tests.diffusiongemma.kernels.gpu_programs import DEPRECATED, lowered


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize(
    ("rows", "width", "size"), [(7, 128, 256), (300, 128, 384), (130, 256, 384), (1, 512, 128)]
)
def test_products_with_a_chunk(rows, width, size, transpose, monkeypatch):
    """Rows fill less than a tile or several. Sums are split evenly, unevenly, or not at all."""
    monkeypatch.setattr(tiling, "PROGRAMS", 8)
    rng = np.random.default_rng(rows)
    table = rng.normal(size=(3 * size, width)).astype(np.float32)
    x = rng.normal(size=(1, rows, width if transpose else size)).astype(np.float32)
    run = jax.jit(lambda *args: product(*args, size=size, transpose=transpose, interpret=True))
    for chunk in (0, 2):
        part = table[chunk * size : (chunk + 1) * size]
        wanted = x.astype(float) @ (part.T if transpose else part)
        np.testing.assert_allclose(run(x, table, jnp.int32(chunk)), wanted, atol=1e-4)


@pytest.mark.parametrize("transpose", [True, False])
def test_gradients_of_products_with_a_chunk(transpose):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(384, 128)).astype(np.float32)
    x = rng.normal(size=(1, 5, 128)).astype(np.float32)
    direction = rng.normal(size=(1, 5, 128)).astype(np.float32)

    def total(x, table):
        chunk = jnp.int32(1)
        found = product(x, table, chunk, size=128, transpose=transpose, interpret=True)
        return jnp.sum(found * direction)

    dx, dtable = jax.jit(jax.grad(total, (0, 1)))(x, table)
    part = table[128:256]
    np.testing.assert_allclose(dx, direction @ (part if transpose else part.T), atol=1e-4)
    wanted = np.zeros_like(table)
    one, other = (direction, x) if transpose else (x, direction)
    wanted[128:256] = one[0].T @ other[0]
    np.testing.assert_allclose(dtable, wanted, atol=1e-4)
    numbers = np.rint(table * 9).astype(np.int8)
    dx = jax.grad(lambda x: total(x, numbers))(x)
    part = numbers[128:256].astype(np.float32)
    np.testing.assert_allclose(dx, direction @ (part if transpose else part.T), atol=1e-3)


def test_what_the_kernels_support():
    def ask(rows: str, table: str, *shape: int) -> bool:
        return supports(jax.ShapeDtypeStruct((1, 256, shape[1]), rows), jnp.empty(shape, table))

    assert ask("bfloat16", "bfloat16", 256, 128) and ask("bfloat16", "int8", 256, 128)
    assert not ask("float32", "float32", 256, 128)
    assert not ask("bfloat16", "bfloat16", 200, 128)
    assert not ask("bfloat16", "bfloat16", 256, 96)


@pytest.mark.filterwarnings(DEPRECATED)
@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_they_lower_to_triton(dtype, transpose):
    run = functools.partial(product, size=256, transpose=transpose)
    x = jnp.zeros((1, 12, 128 if transpose else 256), jnp.bfloat16)
    assert "xla.gpu.triton" in lowered(run, x, jnp.zeros((512, 128), dtype), jnp.int32(0))
