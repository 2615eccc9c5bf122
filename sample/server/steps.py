"""Steps of an answer as they are taken, as small events for the live page (docs/FORMATS.md)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from sample.generation import Snapshot
from sample.page.record import CANDIDATES


class StepWatch:
    """The watcher of all answers that are shown step by step.

    A program is compiled for each watcher, so there is one for all answers.

    Attributes:
      show: gets each snapshot, in arrays of NumPy, and says whether the step is the last one; None
        if nobody looks.
    """

    def __init__(self):
        self.show: Callable[[Snapshot], bool] | None = None

    def __call__(self, seen: Snapshot) -> bool:
        return self.show is not None and self.show(jax.tree.map(np.asarray, seen))


class StepEvents:
    """Makes events of the steps of one answer, the only row of its batch.

    Each event has the texts of the tokens that no event had before. Tokens are named by their place
    among all texts so far, from 0.

    Args:
      text_of: gives the text of a token.
      stop_ids: tokens that end a generation.
      room: number of tokens of the answer, at most.
    """

    def __init__(self, text_of: Callable[[int], str], stop_ids: Sequence[int], room: int):
        self._text_of, self._stop_ids, self._room = text_of, stop_ids, room
        self._places: dict[int, int] = {}

    def event(self, seen: Snapshot) -> dict[str, Any] | None:
        """The event of a step; None if the row did not take it."""
        if not seen.live[0]:
            return None
        known, k = len(self._places), int(seen.k)
        best, entropy = seen.best[0], np.maximum(seen.entropy[0], 0)
        kept = np.zeros(best.shape, bool) if seen.given is None else seen.given.keep[0]
        free = entropy[~kept]
        event = {
            "canvas": k,
            "step": int(seen.n),
            "saw": self._named(seen.canvas[0]),
            "best": self._named(best),
            "entropy": [float(f"{nats:.3g}") for nats in entropy],
            "mean_entropy": float(f"{free.mean() if free.size else 0:.4g}"),
            "accepted": _signs(seen.accepted[0]),
            "kept": _signs(kept) if kept.any() else "",
            "valid": self._valid(seen, k),
        }
        if seen.candidates is not None:
            event["candidates"] = self._candidates(*(x[0] for x in seen.candidates))
        event["tokens"] = [self._text_of(token) for token in list(self._places)[known:]]
        return event

    def _named(self, tokens: np.ndarray) -> list[int]:
        return [self._places.setdefault(int(i), len(self._places)) for i in tokens]

    def _candidates(self, ids: np.ndarray, probabilities: np.ndarray) -> list[list[int]]:
        """For each position: token, byte, token, byte; without tokens whose byte is 0."""
        found = np.round(np.clip(probabilities, 0, 1) * 255).astype(int)
        there = (ids >= 0) & ((found > 0) | (np.arange(CANDIDATES) == 0))
        names = np.zeros_like(ids)
        names[there] = self._named(ids[there])
        pairs = np.stack([names, found], axis=-1)
        return [row[here].reshape(-1).tolist() for row, here in zip(pairs, there, strict=True)]

    def _valid(self, seen: Snapshot, k: int) -> int:
        """Number of tokens of the canvas that are part of the answer, if this is its last step."""
        best = seen.best[0]
        ends = np.isin(best, self._stop_ids)
        if seen.given is not None:
            ends &= ~seen.given.goes_on[0]
        count = int(ends.argmax()) + 1 if ends.any() else len(best)
        return max(min(count, self._room - k * len(best)), 0)


def _signs(flags: np.ndarray) -> str:
    """Booleans as 0 and 1."""
    return "".join("01"[flag] for flag in flags.astype(int))
