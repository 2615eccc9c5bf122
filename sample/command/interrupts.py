"""Ctrl-C while an answer is made: the denoising loop stops at its next step."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sample.generation import Snapshot


class Interrupts:
    """Knows of Ctrl-C at once, on any thread.

    Python raises KeyboardInterrupt in the main thread, and not before the compiled program that it
    waits for has returned. The program's watcher runs on another thread at every step. It asks
    here, and ends the program; then KeyboardInterrupt is raised. Without a watcher, that comes
    after the canvas.

    The exception is lost if it is raised where nobody can catch it, such as in JAX's callback of
    the garbage collector, which runs often while a program is compiled. Python would print it
    there; here nothing is printed, and `pressed` knows of the key all the same.

    To be used as a context manager in the main thread.
    """

    def __enter__(self) -> "Interrupts":
        self._read, write = os.pipe()
        self._write, self._pressed = write, False
        for end in (self._read, write):
            os.set_blocking(end, False)
        self._before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, *_) -> None:
        sys.unraisablehook = self._hook
        signal.set_wakeup_fd(self._before)
        for end in (self._read, self._write):
            os.close(end)

    def _unraisable(self, lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            self._hook(lost)

    def pressed(self) -> bool:
        """Whether Ctrl-C was pressed since `forget`."""
        try:
            while found := os.read(self._read, 512):
                self._pressed |= signal.SIGINT in found
        except BlockingIOError:  # all is read
            pass
        return self._pressed

    def forget(self) -> None:
        """Forgets what was pressed so far."""
        self.pressed()
        self._pressed = False

    def watching(self, watch: Callable[[Snapshot], None]) -> Callable[[Snapshot], bool]:
        """A watcher that calls `watch`, and ends the loop after Ctrl-C."""

        def watch_until_pressed(seen: Snapshot) -> bool:
            if self.pressed():
                return True
            watch(seen)
            return False

        return watch_until_pressed
