import jax.numpy as jnp
import numpy as np

from sample.stopping import count_valid, cut


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
