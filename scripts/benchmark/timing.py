"""Repeated measurements of calls, and compiled programs to measure."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Settings(NamedTuple):
    """How the steps are run.

    Attributes:
      steps: denoising steps of a canvas.
      prefill_chunk: tokens of the prompt that are read at a time.
      repeats: how often each measurement is made.
    """

    steps: int
    prefill_chunk: int
    repeats: int


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program with its arguments.

    Attributes:
      name: what it computes.
      run: computes it. The result may not be ready yet when this returns.
      compile_seconds: seconds of tracing and compilation.
      temporaries: bytes of its temporary arrays, without arguments and results.
    """

    name: str
    run: Callable[[], Any]
    compile_seconds: float
    temporaries: int


@dataclasses.dataclass(frozen=True)
class Timing:
    """The seconds of each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def figures(self, scale: float = 1.0) -> dict[str, float]:
        """ "median", "min" and "max" of the repeats, times a scale: 1e3 gives milliseconds."""
        low, high = min(self.seconds), max(self.seconds)
        return {"median": self.median * scale, "min": low * scale, "max": high * scale}


def measure(run: Callable[[], Any], repeats: int) -> Timing:
    """Times calls, and waits for each result. A first call warms up and is not counted."""
    jax.block_until_ready(run())
    return Timing(tuple(timed(run) for _ in range(repeats)))


def timed(run: Callable[[], Any]) -> float:
    """The seconds of one call until its result is ready."""
    started = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - started
