"""What a generation gives: its result, and what a watcher sees of its steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sample.given import CanvasGiven
from sample.starts import Starts
from sample.step import Candidates, SamplerConfig


class Generation(NamedTuple):
    """What generate returns, as NumPy arrays. K canvases of C tokens, N = config.max_steps.

    Attributes:
      tokens: [B, max_new_tokens] int32; the stop token is kept, pad follows it.
      steps: [B, K] int32, denoising steps of each canvas, those of all its starts together; 0 for a
        canvas that was not begun.
      valid_tokens: [B, K] int32, a canvas' tokens up to and with the first stop token, within
        max_new_tokens.
      best: [B, K, N, C] int32, the argmax canvas of every step; -1 in steps not taken.
      accepted: [B, K, N, C] bool; False in steps not taken, and in the step that stopped early,
        because its draw is not used.
      entropy: [B, K, N, C] float32, nats; -1 in steps not taken.
      starts: all starts of every canvas; None if there is one each.
      canvas: [B, K, N, C] int32, the noisy canvas that the model saw at every step; -1 in steps not
        taken.
      candidates: ids and probabilities [B, K, N, C, k], with config.candidates = k; -1 and 0 in
        steps not taken. Of a kept token there is one candidate, that token. With a constraint on
        every step, they are those of the accepted canvases.
      best, accepted, entropy, canvas and candidates are those of the start that was taken; they are
        None without config.trajectory.
    """

    tokens: np.ndarray
    steps: np.ndarray
    valid_tokens: np.ndarray
    best: np.ndarray | None = None
    accepted: np.ndarray | None = None
    entropy: np.ndarray | None = None
    starts: Starts | None = None
    canvas: np.ndarray | None = None
    candidates: Candidates | None = None

    @property
    def recorded_steps(self) -> np.ndarray:
        """[B, K] int64, the steps that best, accepted and entropy have of each canvas."""
        return np.sum(self.best[..., 0] >= 0, axis=-1)

    @property
    def rounds(self) -> int:
        """The steps of the loops, each of which all rows and their starts take together."""
        steps = self.steps if self.starts is None else self.starts.steps.max(axis=-1)
        return int(steps.max(axis=0).sum())


class Snapshot(NamedTuple):
    """One step of the loop as a watcher sees it, in arrays on the host.

    Of several starts it shows the one that would be taken if this were the canvas' last step. That
    may be another one at each step.

    Attributes:
      k: the canvas, from 0.
      n: the step, from 1.
      best, accepted, entropy: [B, C], as in Generation, of the last step that the start has taken.
      live: [B] bool, the rows that took this step, with one start at least; the arrays mean nothing
        for the other rows.
      given: what is given for the canvas; None for nothing.
      canvas, candidates: [B, C] and [B, C, k], as in Generation.
    """

    k: jax.Array
    n: jax.Array
    best: jax.Array
    accepted: jax.Array
    entropy: jax.Array
    live: jax.Array
    given: CanvasGiven | None = None
    canvas: jax.Array | None = None
    candidates: Candidates | None = None


def not_taken(
    full: Callable[..., Any], shape: tuple[int, ...], canvas: bool, candidates: int
) -> tuple[Any, ...]:
    """What is recorded of steps that were not taken: best, accepted, entropy, canvas, candidates.

    Args:
      full: jnp.full or np.full.
      shape: [..., C].
      canvas: whether the canvas is recorded; else it is None.
      candidates: k; with 0, the candidates are None.
    """
    none = np.int32(-1)
    tops = None
    if candidates:
        wide = (*shape, candidates)
        tops = Candidates(full(wide, none), full(wide, np.float32(0)))
    return (
        full(shape, none),
        full(shape, np.False_),
        full(shape, np.float32(-1)),
        full(shape, none) if canvas else None,
        tops,
    )


def blank(batch_size: int, num_canvases: int, config: SamplerConfig, pad_id: int) -> Generation:
    """A Generation in which no canvas was begun; its tokens are [B, K, C]."""
    shape, size = (batch_size, num_canvases), config.canvas_size

    def counts(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """tokens, steps and valid_tokens."""
        return (
            np.full((*shape, size), pad_id, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
        )

    record, starts = (None,) * 5, None
    if config.trajectory:
        record = not_taken(np.full, (*shape, config.max_steps, size), True, config.candidates)
    if config.starts > 1:
        each = (*shape, config.starts)
        starts = Starts(*counts(each), np.full(each, -1, np.float32))
    best, accepted, entropy, *seen = record
    return Generation(*counts(shape), best, accepted, entropy, starts, *seen)


def store(out: Generation, k: int, canvas: Generation) -> None:
    """Writes canvas k, a Generation without the axis K, into one of all canvases."""

    def put(array: np.ndarray, value: jax.Array) -> None:
        array[:, k] = np.asarray(value)

    jax.tree.map(put, out, canvas)
