"""Ctrl-C while a program loads, compiles or answers: it stops at the next step, or at once."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator

from sample.generation import Snapshot

STOPPING = (
    "stopping when the step, the canvas or the compilation that runs is done; Ctrl-C again ends "
    "the program at once"
)


class Interrupts:
    """Knows of Ctrl-C at once, on any thread.

    Python would raise KeyboardInterrupt in the main thread, wherever that is. JAX 0.10.2 does not
    survive it in a compilation, because the compiler then works on with memory that is freed; and
    in a callback of the garbage collector the exception is lost. So Ctrl-C raises nothing within
    `held`. The program's watcher, which runs on another thread at every step, asks `pressed` and
    ends the program. Without a watcher, the session asks after each canvas.

    A thread waits for Ctrl-C, because the main thread runs no Python code while JAX compiles.

    To be used as a context manager in the main thread.

    Args:
      say: gets each line for the user, on any thread.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say, self._lock = say, threading.Lock()
        self._left: int | None = None  # presses until the program ends; None outside of `held`
        self._signals = (signal.SIGINT,)
        self._pressed = False

    def __enter__(self) -> "Interrupts":
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._over = False
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        signal.set_wakeup_fd(self._before)
        self._over = True
        os.write(self._write, b"\0")  # wakes the thread
        self._thread.join()
        for end in (self._read, self._write):
            os.close(end)

    @contextlib.contextmanager
    def held(self, presses: int = 2, terminable: bool = False) -> Iterator[None]:
        """Forgets what was pressed before. The last of so many presses ends the program here.

        Args:
          presses: number of presses.
          terminable: whether SIGTERM counts as Ctrl-C, instead of ending the program at once.
        """
        self.pressed()
        self._left, self._pressed = presses, False
        self._signals = (signal.SIGINT, signal.SIGTERM)[: 1 + terminable]
        before = {number: signal.getsignal(number) for number in self._signals}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as in a shell's background jobs
                signal.signal(number, lambda *_: None)
        try:
            yield
        finally:
            self.pressed()
            self._left = None
            for number, handler in before.items():
                signal.signal(number, handler)

    def pressed(self) -> bool:
        """Whether Ctrl-C was pressed since `held` began."""
        with self._lock:
            try:
                while found := os.read(self._read, 512):
                    for _ in range(sum(map(found.count, self._signals))):
                        self._press()
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

    def _press(self) -> None:
        if self._left is None:
            return
        self._pressed, self._left = True, self._left - 1
        with contextlib.suppress(OSError, ValueError):  # stderr may be closed
            self._say(STOPPING if self._left else "interrupted")
        if not self._left:
            os._exit(130)  # nothing else ends a compilation

    def _wait(self) -> None:
        """Takes presses until `__exit__`."""
        while not self._over:
            select.select([self._read], [], [])
            self.pressed()
