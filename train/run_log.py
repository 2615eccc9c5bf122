"""A run's figures on their way from the device to the log and the progress bar."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from train.config import RunConfig
from train.metrics_writer import MetricsWriter, progress_bar


class NonFiniteLoss(FloatingPointError):
    """The loss became NaN or infinite."""


class RunLog:
    """Collects the figures of steps without waiting for them, and writes their means.

    Args:
      workdir: the run's folder; see MetricsWriter.
      first: steps done before; the seconds of these count too.
      config: the run.
      latest: gives the step of the newest checkpoint, or None.
    """

    def __init__(
        self, workdir: Path, first: int, config: RunConfig, latest: Callable[[], int | None]
    ):
        self._metrics = MetricsWriter(workdir, first)
        last = self._metrics.last
        self._before, self._started = last["seconds"] if last else 0.0, time.monotonic()
        self._bar = progress_bar(config.steps, first, workdir.name)
        self._batch_size, self._latest = config.batch_size, latest
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []

    def add(self, step: int, figures: dict[str, jax.Array]) -> None:
        """Takes a step's figures, which may still be computed."""
        self._pending.append((step, figures))
        self._bar.update()

    def write(self) -> None:
        """Writes the means of the steps since the last call; waits for them.

        Raises:
          NonFiniteLoss: the loss of one of them is not finite.
        """
        read = [(step, jax.device_get(figures)) for step, figures in self._pending]
        self._pending.clear()
        for step, figures in read:
            if not math.isfinite(figures["loss"]):
                raise NonFiniteLoss(
                    f"the loss of step {step} is {figures['loss']}; the last good checkpoint is "
                    f"of step {self._latest() or 'none'}: try a lower optimizer.peak_lr"
                )
        means = {k: float(np.mean([f[k] for _, f in read])) for k in read[0][1]}
        self._metrics.write(read[-1][0], means | {"seconds": self._seconds()})
        rate = (self._bar.format_dict["rate"] or 0.0) * self._batch_size
        self._bar.set_postfix_str(f"loss {means['loss']:.4f}, {rate:.0f} examples/s")

    def evaluated(self, step: int, figures: dict[str, float], answer: str) -> None:
        """Writes and prints the figures of an evaluation, and one of its answers."""
        figures = figures | {"seconds": self._seconds()}
        self._metrics.write(step, figures)
        self._bar.write(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        self._bar.write(f"step {step}, an answer: {answer}")

    def close(self) -> None:
        self._bar.close()
        self._metrics.close()

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started
