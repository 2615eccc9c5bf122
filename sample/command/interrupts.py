"""Ctrl-C while an answer is made: the denoising loop stops at its next step."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from sample.generation import Snapshot


class Interrupts:
    """Knows of Ctrl-C at once, on any thread.

    Python would raise KeyboardInterrupt in the main thread, wherever that is. JAX 0.10.2 does not
    survive it in a compilation, because the compiler then works on with memory that is freed; and
    in a callback of the garbage collector the exception is lost. So the first Ctrl-C raises nothing
    within `held`. The program's watcher, which runs on another thread at every step, asks `pressed`
    and ends the program. Without a watcher, the session asks after each canvas.

    To be used as a context manager in the main thread.
    """

    def __enter__(self) -> "Interrupts":
        self._read, write = os.pipe()
        self._write, self._pressed = write, False
        for end in (self._read, write):
            os.set_blocking(end, False)
        self._before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_) -> None:
        signal.set_wakeup_fd(self._before)
        for end in (self._read, self._write):
            os.close(end)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Forgets what was pressed before. Only a second Ctrl-C raises KeyboardInterrupt here."""
        self.pressed()
        self._pressed = False
        before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, before))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def pressed(self) -> bool:
        """Whether Ctrl-C was pressed since `held` began."""
        try:
            while found := os.read(self._read, 512):
                self._pressed |= signal.SIGINT in found
        except BlockingIOError:  # all is read
            pass
        return self._pressed

    def watching(self, watch: Callable[[Snapshot], None]) -> Callable[[Snapshot], bool]:
        """A watcher that calls `watch`, and ends the loop after Ctrl-C."""

        def watch_until_pressed(seen: Snapshot) -> bool:
            if self.pressed():
                return True
            watch(seen)
            return False

        return watch_until_pressed
