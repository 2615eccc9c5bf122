import math

import numpy as np
import pytest
from data.metrics import effective_steps, sudoku_metrics, tokens_per_forward, wilson

from data.sudoku.engine import count_solutions, generate
from data.sudoku.grids import check, is_valid_solution

SOLUTION = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]
OTHER = [1, 2, 3, 4, 3, 4, 1, 2, 4, 3, 2, 1, 2, 1, 4, 3]  # valid too
PUZZLE = [1, 0, 3, 4, 0, 4, 1, 2, 2, 1, 0, 3, 4, 3, 2, 0]  # four empty cells


def measure(prediction, puzzle=PUZZLE):
    one = sudoku_metrics([puzzle], [SOLUTION], [prediction])
    return {name: value[0] for name, value in one.items()}


def test_a_right_answer():
    assert measure(SOLUTION) == {
        "exact": True,
        "valid": True,
        "clues_kept": True,
        "cells_right": 1.0,
        "cells_right_all": 1.0,
    }


def test_an_unparseable_answer():
    for puzzle in (PUZZLE, [0] * 16, SOLUTION):
        assert not any(measure([-1] * 16, puzzle).values())


def test_one_wrong_cell():
    wrong = [*SOLUTION[:-1], 2]  # an empty cell of the puzzle
    expected = (False, False, True, 3 / 4, 15 / 16)
    assert tuple(measure(wrong).values()) == expected
    wrong = [2, *SOLUTION[1:]]  # a clue
    expected = (False, False, False, 1.0, 15 / 16)
    assert tuple(measure(wrong).values()) == expected


def test_another_grid_is_valid_but_not_right():
    result = measure(OTHER)
    assert result["valid"] and not result["exact"] and not result["clues_kept"]
    assert result["cells_right_all"] == 1 / 2
    assert measure(OTHER, [0] * 16)["clues_kept"]


def test_no_empty_cell_counts_all():
    assert measure([*SOLUTION[:-1], 2], SOLUTION)["cells_right"] == 15 / 16


def test_puzzles_are_measured_apart():
    grids = np.array([SOLUTION, OTHER, [-1] * 16, SOLUTION], np.int8)
    result = sudoku_metrics([PUZZLE] * 4, [SOLUTION] * 4, grids)
    assert result["exact"].tolist() == [True, False, False, True]
    assert result["valid"].tolist() == [True, True, False, True]
    assert {name: value.shape for name, value in result.items()} == dict.fromkeys(result, (4,))
    assert result["exact"].dtype == result["valid"].dtype == result["clues_kept"].dtype == bool


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="one shape"):
        sudoku_metrics([PUZZLE], [SOLUTION], [SOLUTION, SOLUTION])
    with pytest.raises(ValueError, match="one shape"):
        sudoku_metrics(PUZZLE, SOLUTION, SOLUTION)


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


def test_validity_agrees_with_the_engine():
    solution = generate(np.random.default_rng(0), 3, 40)[1]
    assert is_valid_solution(solution, 3)
    for cell in range(81):
        for digit in {-1, 0, 10, solution[cell] % 9 + 1}:
            wrong = solution.copy()
            wrong[cell] = digit
            assert not is_valid_solution(wrong, 3)
    latin = [(row + col) % 9 + 1 for row in range(9) for col in range(9)]  # only the boxes fail
    lines = [(row // 3 + col // 3 * 3) % 9 for row in range(9) for col in range(9)]
    assert not any(is_valid_solution(g, 3) for g in (latin, lines, [1] * 81, "1" * 81, None))
    assert not is_valid_solution(solution[:80], 3)
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(300):
        full = generate(rng, 2, 16)[1]
        a, b = rng.integers(16, size=2)
        full[[a, b]] = full[[b, a]]
        outcomes.append(is_valid_solution(full, 2))
        assert outcomes[-1] == (count_solutions(full, 2) == 1)
    assert 20 < sum(outcomes) < 280


def test_check_wants_the_clues_kept():
    puzzle, solution = generate(np.random.default_rng(0), 3, 40)
    assert check(puzzle, solution, 3)
    assert not check(puzzle, solution % 9 + 1, 3)
    assert not check(puzzle, puzzle, 3)
