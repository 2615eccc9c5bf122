"""Steps of a generation of no model, as a server sends them, and what they say together."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sample.generation import Generation, Snapshot
from sample.given import CanvasGiven
from sample.page.check import CanvasSteps
from sample.page.columns import CandidateColumns
from sample.step import Candidates


def snapshots(out: Generation, keep: np.ndarray | None = None) -> Iterator[Snapshot]:
    """What a watcher sees of the only row of a generation with a trajectory.

    Args:
      out: the generation.
      keep: [K, C] bool, the kept positions; None for none.
    """
    for k, steps in enumerate(out.recorded_steps[0]):
        given = None
        if keep is not None:
            goes_on = np.zeros_like(keep[k : k + 1])
            given = CanvasGiven(np.where(keep[k : k + 1], 0, -1), keep[k : k + 1], goes_on)
        for n in range(steps):
            best, accepted, entropy, canvas = (
                x[:, k, n] for x in (out.best, out.accepted, out.entropy, out.canvas)
            )
            tops = Candidates(*(x[:, k, n] for x in out.candidates))
            live = np.ones(1, bool)
            yield Snapshot(k, n + 1, best, accepted, entropy, live, given, canvas, tops)


def joined(events: Sequence[dict[str, Any]], scale: float) -> tuple[list[str], list[CanvasSteps]]:
    """The texts of all tokens, and the canvases that events are of, as `unpack` gives them."""
    tokens = [text for event in events for text in event["tokens"]]
    canvases = []
    for k in range(events[-1]["canvas"] + 1):
        steps = [event for event in events if event["canvas"] == k]
        assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
        nats = np.array([step["entropy"] for step in steps])
        size, kept = nats.shape[1], steps[0]["kept"]
        ids = np.full((len(steps), size, 5), -1, np.int32)
        probabilities = np.zeros(ids.shape, np.uint8)
        for n, step in enumerate(steps):
            for c, pairs in enumerate(step["candidates"]):
                ids[n, c, : len(pairs) // 2] = pairs[::2]
                probabilities[n, c, : len(pairs) // 2] = pairs[1::2]
        canvases.append(
            CanvasSteps(
                np.array([step["saw"] for step in steps]),
                np.array([step["best"] for step in steps]),
                np.array([[sign == "1" for sign in step["accepted"]] for step in steps]),
                np.float32(scale * (np.round(255 * np.cbrt(nats / scale)) / 255) ** 3),
                np.array([sign == "1" for sign in kept]) if kept else np.zeros(size, bool),
                CandidateColumns(ids, probabilities),
            )
        )
    return tokens, canvases


def same(events: Sequence[dict[str, Any]], record: dict[str, Any], canvases: list) -> None:
    """Asserts that events say what a record says, whose canvases are unpacked."""
    tokens, found = joined(events, record["entropy_scale"])
    assert len(found) == len(canvases)
    for mine, theirs in zip(found, canvases, strict=True):
        for name in ("canvas", "best"):
            both = [
                [[texts[i] for i in row] for row in getattr(each, name)]
                for each, texts in ((mine, tokens), (theirs, record["tokens"]))
            ]
            assert both[0] == both[1], name
        assert (mine.accepted == theirs.accepted).all() and (mine.kept == theirs.kept).all()
        # Three digits of a number of nats may fall to the byte beside that of the number itself.
        roots = [np.cbrt(x.entropy / record["entropy_scale"]) for x in (mine, theirs)]
        np.testing.assert_allclose(*roots, rtol=0, atol=1.01 / 255)
        assert (mine.candidates.probabilities == theirs.candidates.probabilities).all()
        there = theirs.candidates.ids >= 0
        assert (there == (mine.candidates.ids >= 0)).all()
        texts = [
            [names[i] for i in ids[there]]
            for ids, names in (
                (mine.candidates.ids, tokens),
                (theirs.candidates.ids, record["tokens"]),
            )
        ]
        assert texts[0] == texts[1]
