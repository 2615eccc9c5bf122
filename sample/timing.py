"""The time that each part of a generation takes, with compilation counted apart."""

import collections
import time
from typing import Any

import jax


class Clock:
    """Measures the parts of a block of code, without what JAX traces and compiles in them.

        with Clock() as clock:
            cache = prefill(...)
            clock.lap("prefill", cache)

    Attributes:
      seconds: name -> seconds in all laps of that name, without compilation.
      compile_seconds: seconds of tracing and compilation in all laps.
    """

    def __init__(self):
        self.seconds: collections.Counter[str] = collections.Counter()
        self.compile_seconds = 0.0
        self._spans: list[tuple[float, float]] = []  # since the last lap; disjoint, ascending

    def __enter__(self) -> "Clock":
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        self._last = time.perf_counter()
        return self

    def __exit__(self, *_) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def lap(self, name: str, value: Any = None) -> None:
        """Waits for the arrays in `value`, then adds the time since the last lap to `name`."""
        jax.block_until_ready(value)
        now = time.perf_counter()
        compiled = sum(end - start for start, end in self._spans)
        self._spans.clear()
        self.seconds[name] += now - self._last - compiled
        self.compile_seconds += compiled
        self._last = now

    def _listen(self, event: str, duration: float, **_) -> None:
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            start, spans = end - duration, self._spans
            # Events that began within this one are part of it.
            while spans and spans[-1][0] >= start:
                spans.pop()
            spans.append((max(start, spans[-1][1]) if spans else start, end))
