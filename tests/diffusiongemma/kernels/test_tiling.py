"""Loops that are shared out among programs."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.kernels.tiling import PROGRAMS, dot, num_splits, share


@pytest.mark.parametrize(("splits", "steps"), [(1, 1), (3, 7), (4, 8), (5, 5)])
def test_every_step_belongs_to_one_split(splits, steps):
    found = [step for split in range(splits) for step in range(*share(split, splits, steps))]
    assert found == list(range(steps))


def test_splits_keep_a_gpu_busy_and_are_never_empty():
    assert num_splits(1, 1000) == PROGRAMS
    assert num_splits(PROGRAMS, 1000) == num_splits(3 * PROGRAMS, 1000) == 1
    assert num_splits(1, 5) == 5


def test_tiles_are_multiplied_along_any_axis():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_allclose(dot(jnp.array(a), jnp.array(b), 1, 1), a @ b.T, rtol=1e-5)
    np.testing.assert_allclose(dot(jnp.array(a.T), jnp.array(b), 0, 1), a @ b.T, rtol=1e-5)
