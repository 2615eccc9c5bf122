"""The noise process at its ends and in between."""

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma.diffusion import corrupt, initial_canvas, noise_levels, temperature

V = 16


def chi_square(tokens: np.ndarray, probabilities: np.ndarray) -> float:
    counts = np.bincount(np.asarray(tokens).reshape(-1), minlength=V)
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


# 99.9 % of the chi-square distribution with 15 degrees of freedom lie below this.
LIMIT = 37.7


def test_no_noise_is_the_identity():
    clean = jax.random.randint(jax.random.key(0), (8, 100), 0, V)
    np.testing.assert_array_equal(corrupt(jax.random.key(1), clean, jnp.zeros(8), V), clean)


def test_full_noise_is_uniform_whatever_was_there():
    clean = jnp.full((20, 1000), 3)
    noisy = corrupt(jax.random.key(0), clean, jnp.ones(20), V)
    assert chi_square(noisy, np.full(V, 1 / V)) < LIMIT
    assert chi_square(initial_canvas(jax.random.key(1), (20, 1000), V), np.full(V, 1 / V)) < LIMIT


def test_partial_noise_replaces_its_share_row_by_row():
    levels = jnp.array([0.25, 0.75])
    noisy = corrupt(jax.random.key(0), jnp.full((2, 20_000), 3), levels, V)
    for row, level in enumerate([0.25, 0.75]):
        probabilities = np.full(V, level / V)
        probabilities[3] += 1 - level
        assert chi_square(noisy[row], probabilities) < LIMIT


def test_temperature_falls_from_hot_to_cold():
    np.testing.assert_allclose(temperature(jnp.array([1.0, 0.5, 0.0])), [0.8, 0.6, 0.4], rtol=1e-6)


def test_noise_levels_are_uniform_each_and_even_together():
    levels = np.stack([noise_levels(jax.random.key(i), 4) for i in range(1000)])
    np.testing.assert_array_equal(np.sort(levels, axis=1) * 4 // 1, np.tile(range(4), (1000, 1)))
    for place in range(4):
        parts = (levels[:, place] * V).astype(int)
        assert chi_square(parts, np.full(V, 1 / V)) < LIMIT


def test_a_power_makes_high_noise_levels_more_likely_and_they_stay_even():
    levels = np.stack([noise_levels(jax.random.key(i), 4, power=2.0) for i in range(1000)])
    # Their squares are uniform: the density is 2 t.
    np.testing.assert_array_equal(np.sort(levels**2, axis=1) * 4 // 1, np.tile(range(4), (1000, 1)))
    parts = (levels.ravel() ** 2 * V).astype(int)
    assert chi_square(parts, np.full(V, 1 / V)) < LIMIT
