import jax.numpy as jnp
import numpy as np

from sample.stopping import count_valid, cut, settled


def test_settled_needs_confidence_agreement_and_a_second_step():
    entropy = jnp.array([[0.25, 0.75], [0.25, 0.75], [0.25, 0.8]])  # means 0.5, 0.5, 0.525
    best = jnp.array([[3, 4], [3, 4], [3, 4]])
    previous = jnp.array([[3, 4], [3, 5], [3, 4]])
    assert settled(2, entropy, best, previous, 0.5).tolist() == [True, False, False]
    assert settled(1, entropy, best, best, 0.5).tolist() == [False] * 3


def test_count_valid():
    tokens = jnp.array([[5, 1, 5, 9], [9, 1, 9, 9], [5, 5, 5, 5], [5, 5, 5, 1]])
    valid, ended = count_valid(tokens, (1, 9), 10)
    assert (valid.tolist(), ended.tolist()) == ([2, 1, 4, 4], [True, True, False, True])
    valid, ended = count_valid(tokens, (1, 9), 3)
    assert (valid.tolist(), ended.tolist()) == ([2, 1, 3, 3], [True, True, False, False])
    valid, ended = count_valid(tokens, (), 4)
    assert (valid.tolist(), ended.tolist()) == ([4] * 4, [False] * 4)


def test_cut():
    got = cut(jnp.array([[5, 6, 7], [5, 6, 7], [5, 6, 7]]), jnp.array([0, 2, 3]), 0)
    np.testing.assert_array_equal(got, [[0, 0, 0], [5, 6, 0], [5, 6, 7]])


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
