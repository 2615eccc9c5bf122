"""Collects a run's figures from the device, for the log and the progress bar."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from train.config import RunConfig
from train.loss import accuracies
from train.metrics_writer import MetricsWriter, progress_bar


class NonFiniteLoss(FloatingPointError):
    """The loss of a training step is NaN or infinite."""


class RunLog:
    """Collects the figures of training steps and writes their means.

    The device need not wait: figures are fetched from it when their means are written. The log also
    writes "seconds", the time since the run began. The time between a stop and a restart does not
    count.

    Args:
      workdir: the run's folder.
      first: the number of steps done before, 0 for a new run.
      config: the run.
      latest: returns the step of the newest checkpoint, or None if there is none.
    """

    def __init__(
        self, workdir: Path, first: int, config: RunConfig, latest: Callable[[], int | None]
    ) -> None:
        self._metrics = MetricsWriter(workdir, first)
        last = self._metrics.last
        self._before, self._started = (last or {}).get("seconds", 0.0), time.monotonic()
        self._bar = progress_bar(config.steps, first, workdir.name)
        self._batch_size, self._latest = config.batch_size, latest
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []

    def add(self, step: int, figures: dict[str, jax.Array]) -> None:
        """Takes the figures of a step, float32 scalars. The device may still be computing them."""
        self._pending.append((step, figures))
        self._bar.update()

    def write(self) -> None:
        """Waits for the figures of the steps since the last call, at least one; writes their means.

        Raises:
          NonFiniteLoss: the loss of one of these steps is NaN or infinite.
        """
        read = [(step, jax.device_get(figures)) for step, figures in self._pending]
        self._pending.clear()
        for step, figures in read:
            if not math.isfinite(figures["loss"]):
                latest = self._latest()
                kept = (
                    f"the newest checkpoint is of step {latest}"
                    if latest
                    else "there is no checkpoint"
                )
                raise NonFiniteLoss(
                    f"the loss of step {step} is {figures['loss']} ({kept}): try a lower "
                    "optimizer.peak_lr in a new --workdir"
                )
        means = {k: float(np.mean([f[k] for _, f in read])) for k in read[0][1]}
        means = accuracies(means)
        self._metrics.write(read[-1][0], means | {"seconds": self._seconds()})
        rate = (self._bar.format_dict["rate"] or 0.0) * self._batch_size
        right = f"{100 * means.get('answer_accuracy', 0):.1f} % of answer tokens right"
        self._bar.set_postfix_str(f"loss {means['loss']:.4f}, {right}, {rate:.0f} examples/s")

    def evaluated(self, step: int, figures: dict[str, float], answer: str) -> None:
        """Writes and prints the figures of an evaluation, and prints one of its answers."""
        figures = figures | {"seconds": self._seconds()}
        self._metrics.write(step, figures)
        self._bar.write(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        self._bar.write(f"step {step}, an answer: {answer}")

    def close(self) -> None:
        """Ends the progress bar and closes the files."""
        self._bar.close()
        self._metrics.close()

    def _seconds(self) -> float:
        """Seconds of training, those before a restart included."""
        return self._before + time.monotonic() - self._started
