"""Intervals of shares against published tables, and step counts against sums by hand."""

import math

import pytest

from data.measures import effective_steps, tokens_per_forward, wilson


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [  # Newcombe 1998, table I
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson(successes, n, expected):
    assert wilson(successes, n) == pytest.approx(expected, abs=5e-5)
    low, high = wilson(n - successes, n)
    assert (1 - high, 1 - low) == pytest.approx(expected, abs=5e-5)


def test_wilson_ends():
    assert wilson(0, 7)[0] == 0.0 and wilson(7, 7)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(3, 7, z=0.0) == pytest.approx((3 / 7, 3 / 7))
    for successes, n in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="successes"):
            wilson(successes, n)


def test_steps():
    # (10 * 256 + 4 * 64) / 320 and 320 / (14 + 1)
    assert effective_steps([10, 4], [256, 64]) == pytest.approx(8.8)
    assert tokens_per_forward([10, 4], [256, 64], 2) == pytest.approx(320 / 15)
    assert effective_steps([7], [3]) == 7.0
    assert tokens_per_forward([7], [21], 1) == 3.0  # the last canvas needs no commit
    # A canvas without valid tokens costs passes but no effective steps.
    assert effective_steps([10, 48], [256, 0]) == 10.0
    assert tokens_per_forward([10, 48], [256, 0], 2) == pytest.approx(256 / 59)
    assert math.isnan(effective_steps([3], [0]))
    # Three canvases of two sequences: one commit.
    assert tokens_per_forward([10, 4, 5], [256, 64, 80], 3, num_sequences=2) == 20.0


def test_steps_errors():
    for function in (effective_steps, lambda n, c: tokens_per_forward(n, c, 2)):
        for steps, tokens in (([1, 2], [1]), ([], []), ([[1, 2]], [[1, 2]])):
            with pytest.raises(ValueError, match="per canvas"):
                function(steps, tokens)
    with pytest.raises(ValueError, match="num_canvases"):
        tokens_per_forward([1, 2], [1, 2], 3)
