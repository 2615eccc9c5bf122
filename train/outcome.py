"""What the sampler made of a set of puzzles, and its figures."""

import dataclasses
from typing import Any

import numpy as np

from data.metrics import effective_steps, tokens_per_forward, wilson
from data.sudoku.engine import difficulty

CLUE_BINS = {  # box: the fewest clues of each bin
    3: {"40 or more clues": 40, "30-39 clues": 30, "under 30 clues": 0},
    2: {"8 or more clues": 8, "6-7 clues": 6, "under 6 clues": 0},
}
DIFFICULTIES = ("naked singles only", "hidden singles too", "more than singles")
SHARES = ("exact", "valid", "clues_kept", "cells_right")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One run over N puzzles of n*n cells, each answered with one canvas.

    Attributes:
      predictions: [N, n*n] int8; -1 in every cell of an answer that is no grid.
      exact: [N] bool, the answer is the solution.
      valid: [N] bool, the answer is a grid that breaks no rule, whatever the clues.
      clues_kept: [N] bool, every clue stands in the answer.
      cells_right: [N] float64, the share of the empty cells that is right.
      steps: [N] int32, calls of denoise.
      valid_tokens: [N] int32, tokens up to and with the first stop token.
      seconds: [N] float64, a puzzle's part of its batch's time, without compilation.
      compile_seconds: tracing and compilation.
    """

    predictions: np.ndarray
    exact: np.ndarray
    valid: np.ndarray
    clues_kept: np.ndarray
    cells_right: np.ndarray
    steps: np.ndarray
    valid_tokens: np.ndarray
    seconds: np.ndarray
    compile_seconds: float

    def take(self, rows: np.ndarray) -> "Outcome":
        """The puzzles at `rows`, any NumPy index; compile_seconds stays."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Outcome(**{k: v[rows] if np.ndim(v) else v for k, v in fields.items()})


def summarize(outcome: Outcome, puzzles: np.ndarray, box: int) -> dict[str, Any]:
    """All figures of one run as plain numbers, overall, by clues and by difficulty.

    Args:
      outcome: of N puzzles.
      puzzles: [N, n*n] int8, with one solution each.
      box: 3 or 2.

    Returns:
      shares() of all puzzles and "steps" {"mean", "quartiles", "effective"}, "tokens_per_forward",
      "seconds_per_puzzle", "compile_seconds", "by_clues" and "by_difficulty" {name: shares()}, of
      bins with puzzles in them.
    """
    steps = outcome.steps
    level = np.array([difficulty(puzzle, box) for puzzle in puzzles])
    levels = {name: level == i for i, name in enumerate(DIFFICULTIES)}
    return {
        **shares(outcome),
        "steps": {
            "mean": float(steps.mean()),
            "quartiles": np.percentile(steps, (25, 50, 75)).tolist(),
            "effective": effective_steps(steps, outcome.valid_tokens),
        },
        # Every puzzle is a sequence of one canvas, so no commit is counted.
        "tokens_per_forward": tokens_per_forward(
            steps, outcome.valid_tokens, len(steps), num_sequences=len(steps)
        ),
        "seconds_per_puzzle": float(outcome.seconds.mean()),
        "compile_seconds": float(outcome.compile_seconds),
        "by_clues": by_clues(outcome, puzzles, box),
        "by_difficulty": {k: shares(outcome.take(r)) for k, r in levels.items() if r.any()},
    }


def by_clues(outcome: Outcome, puzzles: np.ndarray, box: int) -> dict[str, Any]:
    """{name: shares()} of each bin of CLUE_BINS with puzzles in it; arguments as of summarize."""
    clues, bins, above = (puzzles > 0).sum(axis=1), {}, np.inf
    for name, fewest in CLUE_BINS[box].items():
        rows = (clues >= fewest) & (clues < above)
        if rows.any():
            bins[name] = shares(outcome.take(rows))
        above = fewest
    return bins


def shares(outcome: Outcome) -> dict[str, Any]:
    """{"count": N, "mean_steps", and each of SHARES}, of at least one puzzle.

    A share is {"rate", "low", "high", "count"} with the 95 % Wilson interval of N puzzles. For
    cells_right, a mean of shares, that interval is wider than it need be.
    """
    count = len(outcome.exact)
    figures: dict[str, Any] = {"count": count, "mean_steps": float(outcome.steps.mean())}
    for name in SHARES:
        total = float(getattr(outcome, name).sum())
        low, high = wilson(min(total, count), count)
        figures[name] = {"rate": total / count, "low": low, "high": high, "count": count}
    return figures


def paired(early: Outcome, full: Outcome) -> dict[str, int]:
    """How often both, one or neither of two runs was exact, and how often they agreed."""
    return {
        "both": int(np.sum(early.exact & full.exact)),
        "only_early_stop": int(np.sum(early.exact & ~full.exact)),
        "only_all_steps": int(np.sum(~early.exact & full.exact)),
        "neither": int(np.sum(~early.exact & ~full.exact)),
        "same_answer": int(np.sum((early.predictions == full.predictions).all(axis=1))),
    }
