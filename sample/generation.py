"""What a generation gives: its result, and what a watcher sees of its steps."""

from typing import NamedTuple

import jax
import numpy as np

from sample.given import CanvasGiven
from sample.starts import Starts
from sample.step import SamplerConfig

# best, accepted and entropy of a step that was not taken.
NOT_TAKEN = (np.int32(-1), np.False_, np.float32(-1))


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
      best, accepted and entropy are those of the start that was taken; they are None without
        config.trajectory.
      starts: all starts of every canvas; None if there is one each.
    """

    tokens: np.ndarray
    steps: np.ndarray
    valid_tokens: np.ndarray
    best: np.ndarray | None = None
    accepted: np.ndarray | None = None
    entropy: np.ndarray | None = None
    starts: Starts | None = None

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
    """

    k: jax.Array
    n: jax.Array
    best: jax.Array
    accepted: jax.Array
    entropy: jax.Array
    live: jax.Array
    given: CanvasGiven | None = None


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

    record, starts = (None, None, None), None
    if config.trajectory:
        record = (np.full((*shape, config.max_steps, size), fill) for fill in NOT_TAKEN)
    if config.starts > 1:
        each = (*shape, config.starts)
        starts = Starts(*counts(each), np.full(each, -1, np.float32))
    return Generation(*counts(shape), *record, starts=starts)


def store(out: Generation, k: int, canvas: Generation) -> None:
    """Writes canvas k, a Generation without the axis K, into one of all canvases."""

    def put(array: np.ndarray, value: jax.Array) -> None:
        array[:, k] = np.asarray(value)

    jax.tree.map(put, out, canvas)
