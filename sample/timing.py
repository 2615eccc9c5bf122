"""Where the time of a generation goes, compilation kept apart."""

import collections
import time

import jax


class Clock:
    """Seconds of the parts of a block of code, less what JAX traced and compiled in them.

        with Clock() as clock:
            cache = prefill(...)
            clock.lap("prefill", cache)

    Attributes:
      seconds: name -> seconds, of all laps of that name.
      compile_seconds: tracing and compilation, in all laps.
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

    def lap(self, name: str, value=None) -> None:
        """Adds the time since the last lap to `name`, once the arrays of `value` are computed."""
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
            # What ended within this event is part of it.
            while spans and spans[-1][0] >= start:
                spans.pop()
            spans.append((max(start, spans[-1][1]) if spans else start, end))
