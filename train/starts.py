"""What several starts of the sampler gain: by one start, by the surest, and by any of them."""

from typing import Any, NamedTuple

import numpy as np

from data.measures import effective_steps, share
from train.markdown import percent, table


class StartOutcome(NamedTuple):
    """The answers of the S starts of N items, each of one canvas.

    Attributes:
      exact: [N, S] bool, which answers are right.
      steps: [N, S] int32, denoising steps of each start.
      valid_tokens: [N, S] int32, tokens up to the first stop token and with it.
    """

    exact: np.ndarray
    steps: np.ndarray
    valid_tokens: np.ndarray


def summarize_starts(starts: StartOutcome, taken: np.ndarray) -> dict[str, Any]:
    """Sums up the starts in plain numbers.

    Args:
      starts: the answers of all starts.
      taken: [N] bool, whether the answer that was taken is right.

    Returns:
      count: S.
      each: the share of right answers of each start.
      one: {"rate", "low", "high", "count"}, the mean of these shares. The interval is that of N
        trials, because the starts of an item are not independent.
      any: the same for the items that at least one start answers right.
      effective_steps: those of one start; see docs/MODEL.md, Measures.
      only_taken, only_first: number of items for which of the answer that was taken and that of the
        first start only this one is right.
    """
    first, each = starts.exact[:, 0], starts.exact.mean(axis=0)
    return {
        "count": starts.exact.shape[1],
        "each": each.tolist(),
        "one": share(starts.exact.mean(axis=1)),
        "any": share(starts.exact.any(axis=1)),
        "effective_steps": effective_steps(starts.steps.ravel(), starts.valid_tokens.ravel()),
        "only_taken": int(np.sum(taken & ~first)),
        "only_first": int(np.sum(first & ~taken)),
    }


def starts_section(modes: dict[str, Any], task: dict[str, Any]) -> list[str]:
    """A heading and a table for the modes that had several starts; empty if none had.

    Args:
      modes: name of a mode -> summarize() of its outcome.
      task: {"noun", "measures"} of the task.
    """
    modes = {name: mode for name, mode in modes.items() if "starts" in mode}
    if not modes:
        return []
    counts = sorted({mode["starts"]["count"] for mode in modes.values()})
    noun, exact = task["noun"], task["measures"]["exact"]
    forms = {
        f"{exact}, by one start (the mean of all)": lambda m: percent(m["starts"]["one"]),
        f"{exact}, by the surest start": lambda m: percent(m["exact"]),
        f"{exact}, by any start": lambda m: percent(m["starts"]["any"]),
        "effective denoising steps, of one start": lambda m: (
            f"{m['starts']['effective_steps']:.2f}"
        ),
        "effective denoising steps, of all starts": lambda m: f"{m['steps']['effective']:.2f}",
        f"{noun}s that only the surest start gets right, not the first": lambda m: str(
            m["starts"]["only_taken"]
        ),
        f"{noun}s that only the first start gets right, not the surest": lambda m: str(
            m["starts"]["only_first"]
        ),
    }
    rows = [[name, *(form(mode) for mode in modes.values())] for name, form in forms.items()]
    told = (
        f"Each {noun} was denoised {' or '.join(map(str, counts))} times from different noise. The "
        "answer with the lowest mean entropy was taken (the surest start), and the steps of all "
        "starts count. A choice that is never wrong would have the share of any start."
    )
    return ["## Several starts", told, table(["", *modes], rows)]
