import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sample.step import SamplerConfig, accept, draw_noise, noise, settled


@pytest.mark.parametrize(
    ("entropies", "bound", "accepted"),
    [
        pytest.param([0.05, 0.04, 0.02, 0.9], 0.1, [1, 1, 1, 0], id="last one's own is left out"),
        pytest.param([0.5, 0.25, 0.25, 0.125], 0.625, [1, 1, 1, 1], id="a sum equal to the bound"),
        pytest.param([0.5, 0.25, 0.25, 0.125], 0.5, [0, 1, 1, 1], id="a sum above the bound"),
        pytest.param([0.25, 0.25, 0.25, 0.25], 0.25, [1, 1, 0, 0], id="ties go by position"),
        pytest.param([0.5, 0.25, 0.5, 0.25], 0.5, [1, 1, 0, 1], id="ties behind others"),
        pytest.param([0.0, 0.0, 0.0, 0.0], 0.0, [1, 1, 1, 1], id="zeros cost nothing"),
        pytest.param([0.5, 0.0, 0.25, 0.0], 0.0, [0, 1, 1, 1], id="bound 0 takes one beyond zeros"),
        pytest.param([3.0, 2.0, 4.0, 2.0], 0.1, [0, 1, 0, 0], id="always at least one"),
        pytest.param([3.0, 2.0, 4.0, 2.0], 1e9, [1, 1, 1, 1], id="all"),
    ],
)
def test_accept(entropies, bound, accepted):
    got = accept(jnp.array([entropies], jnp.float32), bound)
    np.testing.assert_array_equal(got[0], np.array(accepted, bool))


def test_accept_treats_rows_apart_and_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    entropies = (rng.integers(0, 6, (64, 9)) / 8).astype(np.float32)  # exact sums, many ties
    got = np.asarray(accept(jnp.array(entropies), 0.75))
    for row, flags in zip(entropies, got, strict=True):
        want, total = np.zeros(9, bool), 0.0
        for i in sorted(range(9), key=lambda i: (row[i], i)):
            if total > 0.75:
                break
            want[i], total = True, total + row[i]
        np.testing.assert_array_equal(flags, want)


def test_positions_that_are_not_free_are_left_out_and_never_accepted():
    entropy = jnp.array([[0.01, 0.0, 0.02, 0.0], [9.0, 0.0, 8.0, 0.0]])
    free = jnp.array([[True, False, True, False]] * 2)
    assert accept(entropy, 0.1, free).tolist() == [
        [True, False, True, False],
        [False, False, True, False],
    ]
    assert accept(entropy, 0.1, jnp.ones((2, 4), bool)).tolist() == accept(entropy, 0.1).tolist()
    assert not accept(entropy, 0.1, jnp.zeros((2, 4), bool)).any()


def test_accept_of_a_canvas_of_one():
    assert accept(jnp.array([[5.0]]), 0.0).tolist() == [[True]]


def test_draw_noise_is_each_rows_own():
    keys = jax.random.split(jax.random.key(0), 2)
    got = draw_noise(keys, 5, 384)
    assert got.gumbel.shape == (2, 5, 3) and got.uniform.shape == (2, 5)
    alone = draw_noise(keys[1:], 5, 384)
    for both, one in zip(got, alone, strict=True):
        np.testing.assert_array_equal(both[1], one[0])
        assert not np.isclose(both[0], both[1]).any()
    many = draw_noise(keys, 5000, 256)
    np.testing.assert_allclose(np.mean(many.gumbel), np.euler_gamma, atol=0.05)
    np.testing.assert_allclose(np.var(many.gumbel), np.pi**2 / 6, rtol=0.05)
    np.testing.assert_allclose(np.quantile(many.uniform, [0.1, 0.5]), [0.1, 0.5], atol=0.02)


def test_noise_is_uniform_over_the_vocabulary():
    tokens = np.asarray(noise(jax.random.split(jax.random.key(0), 2), 8000, 8))
    np.testing.assert_allclose(np.bincount(tokens.ravel()) / 16_000, 1 / 8, atol=0.01)
    assert (tokens[0] != tokens[1]).any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1, not 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"canvas_size": -1}, "canvas_size must be at least 1"),
        ({"candidates": -1}, "candidates must be at least 0, not -1"),
        ({"candidates": 2}, "they need trajectory"),
        ({"starts": 0}, "starts must be at least 1, not 0"),
        ({"restart_every": 0}, "restart_every must be at least 1, not 0"),
        ({"entropy_bound": -0.1}, "entropy_bound must be above 0"),
        ({"entropy_bound": 0}, "entropy_bound must be above 0"),
        ({"stop_threshold": -1}, "stop_threshold must not be negative"),
        ({"stop_threshold": float("nan")}, "stop_threshold: expected a finite number, got nan"),
        ({"max_temperature": float("inf")}, "max_temperature: expected a finite number, got inf"),
        ({"max_steps": 2**40}, "max_steps: expected a number from"),
        ({"stop_ids": [1, "2"]}, r"stop_ids\[1\]: expected int, got '2'"),
        ({"min_temperature": 0.0}, "0 < min <= max"),
        ({"min_temperature": 0.9}, "0 < min <= max, got min 0.9 and max 0.8"),
    ],
)
def test_config_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**fields)


def test_config_is_hashable_whatever_the_stop_ids_came_as():
    assert hash(SamplerConfig(stop_ids=[1, 2])) == hash(SamplerConfig(stop_ids=(1, 2)))


def test_settled_needs_confidence_agreement_and_a_second_step():
    entropy = jnp.array([[0.25, 0.75], [0.25, 0.75], [0.25, 0.8]])  # means 0.5, 0.5, 0.525
    best = jnp.array([[3, 4], [3, 4], [3, 4]])
    previous = jnp.array([[3, 4], [3, 5], [3, 4]])
    assert settled(2, entropy, best, previous, 0.5).tolist() == [True, False, False]
    assert settled(1, entropy, best, best, 0.5).tolist() == [False] * 3


def test_settled_looks_at_counted_positions_alone():
    entropy = jnp.array([[0.25, 9.0, 0.75], [0.25, 0.0, 0.8], [0.25, 0.0, 0.75], [9.0, 9.0, 9.0]])
    best = jnp.array([[3, 4, 5]] * 4)
    previous = jnp.array([[3, 9, 5], [3, 4, 5], [3, 4, 9], [9, 9, 9]])
    counted = jnp.array([[True, False, True]] * 3 + [[False] * 3])
    assert settled(2, entropy, best, previous, 0.5, counted).tolist() == [True, False, False, True]
    # A row without a counted position stops at once; others wait for the second step.
    assert settled(1, entropy, best, best, 0.5, counted).tolist() == [False] * 3 + [True]
    whole = jnp.ones(counted.shape, bool)
    assert settled(2, entropy, best, best, 3.5, whole).tolist() == [True, True, True, False]
