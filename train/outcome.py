"""The outcome of an evaluation: answers with their scores, summed up in figures."""

import dataclasses
from typing import Any

import numpy as np

from data.measures import effective_steps, share, tokens_per_forward
from train.starts import StartOutcome, summarize_starts

# Bins of a report: title -> name -> bool [N].
Bins = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The answers to N items under one setting of the sampler. K is the number of canvases.

    Attributes:
      answers: [N] object, the texts of the answers.
      scores: name of a measure -> [N] float64, the values that Task.score gives.
      steps: [N, K] int32, denoising steps of each canvas, those of all its starts together; 0 for a
        canvas that was not begun.
        Left to right there is one canvas, and each token is a step.
      valid_tokens: [N, K] int32, tokens of each canvas up to the first stop token and with it. Kept
        tokens do not count: the model did not write them.
      seconds: [N] float64, the time of an item's batch divided by the number of its items, without
        compilation.
      compile_seconds: seconds of tracing and compilation, all batches together.
      starts: the answers of all starts. None if there is one start, or several canvases: the starts
        of a canvas go on from the canvases that were taken, so none has an answer of its own.
    """

    answers: np.ndarray
    scores: dict[str, np.ndarray]
    steps: np.ndarray
    valid_tokens: np.ndarray
    seconds: np.ndarray
    compile_seconds: float
    starts: StartOutcome | None = None

    @property
    def exact(self) -> np.ndarray:
        """[N] bool, which answers are right."""
        return self.scores["exact"] == 1

    def take(self, rows: np.ndarray) -> "Outcome":
        """The outcome of some items; compile_seconds stays that of all.

        Args:
          rows: any NumPy index of the N items: numbers, or a bool for each.
        """
        arrays = ("answers", "steps", "valid_tokens", "seconds")
        taken = {name: getattr(self, name)[rows] for name in arrays}
        scores = {name: values[rows] for name, values in self.scores.items()}
        starts = self.starts
        if starts is not None:
            starts = StartOutcome(*(values[rows] for values in starts))
        return dataclasses.replace(self, **taken, scores=scores, starts=starts)


def typical(outcome: Outcome) -> int:
    """The number of an item whose answer took a typical number of steps.

    The item is right, if any is, and its number of steps is the closest to the median of the right
    answers (of all answers, if none is right). Of several such items it is the first.
    """
    rows = np.flatnonzero(outcome.exact)
    rows = rows if rows.size else np.arange(len(outcome.exact))
    steps = outcome.steps[rows].sum(axis=1)
    return int(rows[np.argmin(np.abs(steps - np.median(steps)))])


def summarize(outcome: Outcome, bins: Bins) -> dict[str, Any]:
    """Sums up one outcome in plain numbers, for all items and for each bin.

    Args:
      outcome: the answers to N items.
      bins: how the items are divided.

    Returns:
      the fields of shares(outcome), and:
        steps: {"mean", "quartiles", "effective"}, denoising steps of an answer. "effective" is
          defined in docs/MODEL.md (Measures).
        tokens_per_forward: also defined there.
        seconds_per_item, compile_seconds: seconds.
        bins: {title: {name: shares()}}, for bins that have items.
        starts: summarize_starts(), if the outcome has the answers of several starts.
    """
    begun = outcome.steps > 0
    steps, valid = outcome.steps[begun], outcome.valid_tokens[begun]
    total, starts = outcome.steps.sum(axis=1), outcome.starts
    return {
        **shares(outcome),
        "steps": {
            "mean": float(total.mean()),
            "quartiles": np.percentile(total, (25, 50, 75)).tolist(),
            "effective": effective_steps(steps, valid),
        },
        "tokens_per_forward": tokens_per_forward(
            steps, valid, len(steps), num_sequences=len(total)
        ),
        "seconds_per_item": float(outcome.seconds.mean()),
        "compile_seconds": float(outcome.compile_seconds),
        "bins": {title: by_bin(outcome, parts) for title, parts in bins.items()},
    } | ({} if starts is None else {"starts": summarize_starts(starts, outcome.exact)})


def by_bin(outcome: Outcome, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    """shares() of each bin that has items.

    Args:
      outcome: the answers to N items.
      parts: name of a bin -> [N] bool, which items are in it.
    """
    return {name: shares(outcome.take(rows)) for name, rows in parts.items() if rows.any()}


def shares(outcome: Outcome) -> dict[str, Any]:
    """The mean of each measure over N items, at least one, with its interval.

    Returns:
      {"count": N, "mean_steps": denoising steps of an answer, and for each measure its name ->
      {"rate", "low", "high", "count"}} (data.measures.share).
    """
    count = len(outcome.answers)
    figures: dict[str, Any] = {"count": count}
    figures["mean_steps"] = float(outcome.steps.sum(axis=1).mean())
    return figures | {name: share(values) for name, values in outcome.scores.items()}


def paired(early: Outcome, full: Outcome) -> dict[str, int]:
    """Compares two outcomes of the same items, with early stopping and with all steps.

    Returns:
      numbers of items: "both", "only_early_stop", "only_all_steps" and "neither" say whose answer
      is right; "same_answer" counts equal answers.
    """
    return {
        "both": int(np.sum(early.exact & full.exact)),
        "only_early_stop": int(np.sum(early.exact & ~full.exact)),
        "only_all_steps": int(np.sum(~early.exact & full.exact)),
        "neither": int(np.sum(~early.exact & ~full.exact)),
        "same_answer": int(np.sum(early.answers == full.answers)),
    }
