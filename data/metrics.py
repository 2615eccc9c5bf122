"""What is measured on answers: right Sudokus, intervals for shares, and steps per canvas.

TR is the technical report, arXiv 2608.00146.
"""

import math

import numpy as np

from data.sudoku.grids import valid_solutions


def wilson(successes, n, z=1.959964):
    """The Wilson score interval of a share; z = 1.959964 is the 95 % interval.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  p = successes / n

    Returns:
        (low, high), floats in 0..1; (0, 1) for n = 0.

    Raises:
        ValueError: unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 <= successes <= n")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not move the ends that are exactly 0 and 1.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high


def sudoku_metrics(puzzles, solutions, predictions):
    """Compares answers with puzzles that have one solution each.

    Args:
        puzzles, solutions: integers [N, n*n], 0 for an empty cell.
        predictions: integers [N, n*n]; -1 in every cell of an answer that could not be parsed.

    Returns:
        Arrays [N]:
            exact: bool, the answer is the solution.
            valid: bool, no row, column or box repeats a digit, whatever the clues.
            clues_kept: bool, every clue stands in the answer.
            cells_right: float64, right cells among those empty in the puzzle; among all cells for
                a puzzle without empty cells.
            cells_right_all: float64, right cells among all.

    Raises:
        ValueError: the shapes differ.
    """
    puzzles, solutions, predictions = map(np.asarray, (puzzles, solutions, predictions))
    if puzzles.ndim != 2 or not puzzles.shape == solutions.shape == predictions.shape:
        raise ValueError(
            "expected three arrays of one shape [N, n*n], got "
            f"{puzzles.shape}, {solutions.shape} and {predictions.shape}"
        )
    right = predictions == solutions
    empty = puzzles == 0
    counted = empty | ~empty.any(axis=1, keepdims=True)
    parsed = (predictions >= 0).all(axis=1)
    return {
        "exact": right.all(axis=1),
        "valid": valid_solutions(predictions, math.isqrt(math.isqrt(puzzles.shape[1]))),
        "clues_kept": (empty | (predictions == puzzles)).all(axis=1) & parsed,
        "cells_right": (right & counted).sum(axis=1) / counted.sum(axis=1),
        "cells_right_all": right.mean(axis=1),
    }


def _steps_and_tokens(steps, valid_tokens):
    steps, valid_tokens = np.asarray(steps, np.float64), np.asarray(valid_tokens, np.float64)
    if steps.ndim != 1 or steps.shape != valid_tokens.shape or not steps.size:
        raise ValueError(
            f"expected one number per canvas, got steps {steps.shape}, tokens {valid_tokens.shape}"
        )
    return steps, valid_tokens


def effective_steps(steps, valid_tokens):
    """The denoising steps behind the average valid token of a sequence (TR).

        sum_k N_k C_k / sum_k C_k

    Args:
        steps: [K], the denoising steps N_k spent on canvas k.
        valid_tokens: [K], the tokens C_k of canvas k up to and with the first stop token.

    Returns:
        float; nan if the sequence has no valid token.

    Raises:
        ValueError: the shapes differ, or K = 0.
    """
    steps, valid_tokens = _steps_and_tokens(steps, valid_tokens)
    total = valid_tokens.sum()
    return float((steps * valid_tokens).sum() / total) if total else math.nan


def tokens_per_forward(steps, valid_tokens, num_canvases, num_sequences=1):
    """Valid tokens per forward pass of a sequence (TR), or of several.

        sum_k C_k / (sum_k N_k + K - 1)

    Every canvas but a sequence's last costs one more pass, which commits it to the cache. The
    prompt's prefill is not counted.

    Args:
        steps: [K], the denoising steps N_k spent on canvas k.
        valid_tokens: [K], the tokens C_k of canvas k up to and with the first stop token.
        num_canvases: K.
        num_sequences: how many sequences the canvases are of; as many commits are saved.

    Returns:
        float.

    Raises:
        ValueError: the shapes differ, K = 0, or K is not num_canvases.
    """
    steps, valid_tokens = _steps_and_tokens(steps, valid_tokens)
    if len(steps) != num_canvases:
        raise ValueError(f"got {len(steps)} canvases, expected num_canvases = {num_canvases}")
    return float(valid_tokens.sum() / (steps.sum() + num_canvases - num_sequences))
