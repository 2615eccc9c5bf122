"""The queue of requests, and the loop that answers them one by one.

One thread owns the model. It runs `Jobs.run`. The requests come from the event loop of the server,
which runs on another thread, and get their events back there.
"""

import asyncio
import collections
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

from sample.server.errors import Refused

PATIENCE = 0.2  # seconds between two questions whether the loop is to end
BEAT = object()  # no event came for a while


class Job:
    """One request on its way, and the events that go back to who asked.

    Attributes:
      asked: what is asked.
      cancelled: whether nobody waits for the answer any more.

    Args:
      asked: what is asked.
      loop: the event loop of who asks.
    """

    def __init__(self, asked: Any, loop: asyncio.AbstractEventLoop):
        self.asked, self.cancelled = asked, False
        self._loop, self._events = loop, asyncio.Queue()

    def send(self, event: Any) -> None:
        """Hands an event to who asked. Called by the thread that answers."""
        if not self.cancelled:
            self._hand_over(event)

    def end(self) -> None:
        """Says that no event follows."""
        self._hand_over(None)

    async def events(self, beat: float | None = None) -> AsyncIterator[Any]:
        """The events until the last one. To be used on the event loop.

        Args:
          beat: seconds without an event after which BEAT is given; None for no such time.
        """
        while True:
            try:
                event = await asyncio.wait_for(self._events.get(), beat)
            except TimeoutError:
                event = BEAT
            if event is None:
                return
            yield event

    def _hand_over(self, event: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the event loop is closed
            self.cancelled = True


class Jobs:
    """A queue of jobs, first come, first answered.

    Args:
      answer: answers a job by `Job.send`. It raises Refused for a job that gets no answer, and
        KeyboardInterrupt once it sees that the job is cancelled or that the loop is to end.
      most: largest number of jobs that wait.
      complain: gets a line for the user.
    """

    def __init__(self, answer: Callable[[Job], None], most: int, complain: Callable[[str], None]):
        self._answer, self._most, self._complain = answer, most, complain
        self._waiting = collections.deque[Job]()
        self._running: Job | None = None
        self._over = False
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        """The number of jobs that wait or are being answered."""
        with self._changed:
            return len(self._waiting) + (self._running is not None)

    def put(self, job: Job) -> int:
        """Adds a job; returns the number of those before it.

        Raises:
          Refused: too many jobs wait, or the server is about to end.
        """
        with self._changed:
            if self._over:
                raise _stopping()
            if len(self._waiting) >= self._most:
                raise Refused(
                    429,
                    f"{len(self._waiting)} requests wait already, and no more are taken: ask later",
                    code="queue_full",
                )
            self._waiting.append(job)
            self._changed.notify()
            return len(self._waiting) - 1 + (self._running is not None)

    def cancel(self, job: Job) -> None:
        """Takes a job out of the queue, or ends its answer at the next step or canvas."""
        with self._changed:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
        job.end()

    def run(self, over: Callable[[], bool]) -> None:
        """Answers jobs until `over` says so. Whoever still waits then is told."""
        while not over():
            job = self._next()
            if job is None:
                continue
            try:
                self._answer(job)
            except Refused as error:
                job.send(error)
            except KeyboardInterrupt:
                job.send(_stopping())
            except Exception as error:  # whatever it is, others are answered
                self._complain("".join(traceback.format_exception(error)).rstrip())
                job.send(Refused(500, f"no answer, because of an error here: {_line(error)}"))
            with self._changed:
                self._running = None
            job.end()
            del job
        with self._changed:
            self._over, left = True, list(self._waiting)
            self._waiting.clear()
        for job in left:
            job.send(_stopping())
            job.end()

    def give_up(self) -> None:
        """Tells everybody at once that no answer comes, while `run` is busy on its own thread."""
        with self._changed:
            self._over, left = True, [*self._waiting, *filter(None, [self._running])]
            self._waiting.clear()
        for job in left:
            job.send(_stopping())
            job.cancelled = True
            job.end()

    def _next(self) -> Job | None:
        """The next job; None if none has come within PATIENCE."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(PATIENCE)
            self._running = self._waiting.popleft() if self._waiting else None
            return self._running


def _stopping() -> Refused:
    return Refused(503, "the server is being stopped")


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
