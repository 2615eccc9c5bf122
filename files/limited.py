"""Calls a function in a helper process that has little time and memory.

A chat template or a regular expression that came with somebody's weights is a program. It may
multiply without end, even in a single operation, which nothing in the same process can stop. So
such programs run in a process of their own. The system ends it when a call has used up its time,
and refuses it more memory. It has no open file but its two pipes, and can open none.

The helper is started at the first call and kept for later ones, which take about a tenth of a
millisecond each. After a call that took too much, the next one starts a new helper.
"""

import atexit
import contextlib
import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from files.limited_calls import (
    MEMORY,
    OUT_OF_MEMORY,
    RAISED,
    RETURNED,
    SECONDS,
    receive,
    send,
)

_ROOT = str(Path(__file__).parents[1])
_START = "import sys; sys.path[:] = sys.argv[4:]; from files.limited_calls import serve; serve()"


class LimitError(ValueError):
    """A call took too much time or memory."""


class Limited:
    """A function of this repository that is called in a helper process. Threads may share it.

    Args:
      function: "MODULE:NAME" of the function, which returns a text. It can use what its module has
        imported and read, and can open no file.
      seconds: of processor time for a call.
      memory: bytes for a call.
    """

    def __init__(self, function: str, seconds: float = SECONDS, memory: int = MEMORY):
        self._start = [_START, function, str(seconds), str(memory)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner = 0  # the process that started the helper, and not a fork of it

    def __call__(self, *program: Any, data: tuple = ()) -> str:
        """What the function returns for the arguments (*program, *data).

        Args:
          program: values that pickle can write: the foreign program and what it always gets.
          data: more such values: what the user gives to it. The more they are, the more time and
            memory it may take.

        Raises:
          LimitError: it takes too much time or memory. The message begins with "it".
          ValueError: the function has raised an error. The message is that of the error.
        """
        parts = [pickle.dumps(part) for part in (program, data)]
        with self._lock:
            process = self._running()
            try:
                send(process.stdin, *parts)
                kind, text = receive(process.stdout), receive(process.stdout)
            except (BrokenPipeError, EOFError):
                raise LimitError(_why(self._end(kill=False))) from None
            except BaseException:  # Ctrl-C, for example; the reply would be taken for the next one
                self._end(kill=True)
                raise
        if kind == RETURNED:
            return text.decode(errors="surrogatepass")
        assert kind == RAISED
        raise ValueError(text.decode(errors="surrogatepass"))

    def close(self) -> None:
        """Ends the helper. A later call starts a new one."""
        with self._lock:
            if self._process is not None and self._owner == os.getpid():
                self._end(kill=True)

    def _running(self) -> subprocess.Popen:
        """The helper, which is started if there is none."""
        if self._process is not None and self._owner == os.getpid():
            if self._process.poll() is None:
                return self._process
            self._end(kill=False)
        path = dict.fromkeys([_ROOT, *filter(None, sys.path)])
        self._process = subprocess.Popen(
            # Neither the environment nor files beside Python decide what it imports.
            [sys.executable, "-I", "-S", "-c", *self._start, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # where a library says that it aborts
            start_new_session=True,  # so that Ctrl-C reaches this process alone
        )
        self._owner = os.getpid()
        atexit.register(self.close)
        return self._process

    def _end(self, kill: bool) -> int:
        """Ends the helper, or waits for its end. Returns its exit status."""
        process, self._process = self._process, None
        atexit.unregister(self.close)
        if kill:
            process.kill()
        with contextlib.suppress(BrokenPipeError):  # it has not read all
            process.stdin.close()
        process.stdout.close()
        return process.wait()


@functools.cache
def limited(function: str, seconds: float = SECONDS, memory: int = MEMORY) -> Limited:
    """The Limited of a function. All callers share its helper."""
    return Limited(function, seconds, memory)


def _why(status: int) -> str:
    """What a helper has died of, from its exit status."""
    if status == -signal.SIGPROF:
        return "it takes too much time"
    if status in (OUT_OF_MEMORY, -signal.SIGABRT):  # what Rust does without memory
        return "it needs too much memory"
    return f"it ended the process that it ran in (status {status})"
