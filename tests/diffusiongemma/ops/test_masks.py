"""Positions, slots and masks against a list of tokens that is kept by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.ops import masks


def test_positions_count_real_tokens_wherever_the_padding_is():
    mask = np.array([[False, True, True, False, True], [True, True, False, False, False]])
    found = np.asarray(masks.token_positions(jnp.array([4, 0]), jnp.array(mask), 5))
    np.testing.assert_array_equal(found[0][mask[0]], [4, 5, 6])
    np.testing.assert_array_equal(found[1][mask[1]], [0, 1])
    whole = masks.token_positions(jnp.array([4, 0]), None, 3)
    np.testing.assert_array_equal(whole, [[4, 5, 6], [0, 1, 2]])


@pytest.mark.parametrize("num_slots", [1, 4, 7, 30])
def test_a_ring_holds_the_last_tokens_each_in_its_slot(num_slots):
    """Tokens are written in calls of several sizes, with padding."""
    rng = np.random.default_rng(num_slots)
    ring = np.full((2, num_slots), -1)
    length = np.zeros(2, np.int32)
    for size in (3, 1, 9, 5):
        mask = rng.random((2, size)) < 0.7
        positions = masks.token_positions(jnp.array(length), jnp.array(mask), size)
        length += mask.sum(axis=1, dtype=np.int32)
        slots = masks.write_slots(positions, jnp.array(mask), jnp.array(length), num_slots)
        for row, column in zip(*np.nonzero(np.asarray(slots) < num_slots), strict=True):
            ring[row, slots[row, column]] = positions[row, column]
        held = np.asarray(masks.slot_positions(jnp.array(length), num_slots))
        for row in range(2):
            last = range(max(length[row] - num_slots, 0), length[row])
            assert sorted(ring[row][ring[row] >= 0]) == list(last)
            np.testing.assert_array_equal(held[row][held[row] >= 0], ring[row][ring[row] >= 0])
            assert np.all((held[row] < 0) == (ring[row] < 0))


def test_no_slots_hold_nothing():
    assert masks.slot_positions(jnp.array([3, 5]), 0).shape == (2, 0)


@pytest.mark.parametrize("window", [1, 3, masks.NO_WINDOW])
def test_a_query_sees_the_last_keys_up_to_its_own(window):
    query, key = np.array([[2, 5, 9]]), np.array([[0, 1, 2, -1, 5, 6, 9, -3]])
    found = masks.visible(jnp.array(query), jnp.array(key), window)
    wanted = [[0 <= k <= q and q - k < window for k in key[0]] for q in query[0]]
    np.testing.assert_array_equal(found[0], wanted)


@pytest.mark.parametrize("window", [2, 4, 30])
def test_tokens_of_a_span_see_its_later_tokens_within_the_window(window):
    """Rows with padding in between; spans at both ends of a row, and one that is alone in it."""
    rows = ["ss.tt.sss_s.", "_.s__sss.sss", "ssssssssssss", "....._......"]
    kind = np.array([list(row) for row in rows])
    mask, in_span = kind != "_", kind == "s"
    positions = masks.token_positions(jnp.array([0, 3, 7, 1]), jnp.array(mask), kind.shape[1])
    reach = masks.span_reach(positions, jnp.array(in_span), jnp.array(mask), window)
    key = jnp.where(mask, positions, -1)
    found = np.asarray(masks.visible(positions, key, window, reach))
    for row in range(len(rows)):
        real = np.flatnonzero(mask[row])
        for i, query in enumerate(real):
            for j, at in enumerate(real):
                run = in_span[row, real[min(i, j) : max(i, j) + 1]].all()
                wanted = abs(i - j) < window and (j <= i or run)
                assert found[row, query, at] == wanted, (row, i, j)
    assert not found.swapaxes(1, 2)[~mask].any()
    if window == 30:  # without padding
        whole = masks.span_reach(positions[2:3], jnp.array(in_span[2:3]), None, window)
        np.testing.assert_array_equal(whole, reach[2:3])
