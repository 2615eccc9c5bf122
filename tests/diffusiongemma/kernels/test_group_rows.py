"""Grouping rows by expert with kernels, run as plain JAX, against the way of XLA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.kernels.group_rows import group_rows_by_kernel
from diffusiongemma.ops.expert_loop import group_rows
from tests.diffusiongemma.kernels.gpu_programs import DEPRECATED, lowered


@pytest.mark.parametrize(
    ("rows", "num_experts", "block"), [(1, 4, 16), (70, 5, 16), (5000, 7, 64), (40, 128, 16)]
)
def test_the_kernels_group_rows_as_xla_does(rows, num_experts, block):
    """Rows go to all experts, some of them, or one; 5000 rows take several steps."""
    group = jax.jit(functools.partial(group_rows_by_kernel, interpret=True), static_argnums=(1, 2))
    rng = np.random.default_rng(rows)
    last = num_experts - 1
    for ids in (rng.integers(0, num_experts, rows), rng.choice([1, last], rows), [last] * rows):
        ids = jnp.asarray(ids, jnp.int32)
        found = group(ids, num_experts, block)
        for wanted, got in zip(group_rows(ids, num_experts, block), found, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.filterwarnings(DEPRECATED)
def test_it_lowers_to_two_triton_kernels():
    group = functools.partial(group_rows_by_kernel, num_experts=5, block=16)
    text = lowered(group, jnp.zeros((70,), jnp.int32))
    assert text.count("@__gpu$xla.gpu.triton") == 2
