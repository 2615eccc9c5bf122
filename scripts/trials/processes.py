"""Processes that trials start, kill and wait for.

They are forked from one process that has imported the commands, because the imports take longer
than most trials. No process that computes is ever forked.
"""

import atexit
import contextlib
import ctypes
import importlib
import multiprocessing
import os
import re
import resource
import signal
import sys
import unicodedata
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

from scripts.trials.trial import Verdict

ROOT = Path(__file__).parents[2]
COMMANDS = ("train.main", "train.evaluate", "sample.main", "sample.solve", "sample.page.__main__")
COMMANDS += ("scripts.convert", "scripts.plan", __name__)
PR_SET_PDEATHSIG = 1  # of the kernel
LONGEST = 120  # seconds of processor time after which the kernel ends a process
WAIT = 2  # seconds between two looks at a process
IDLE = 30  # looks between which a process used no hundredth of a second, after which it hangs
OUTPUTS = ("stdout", "stderr")
USED = "used"  # the file in which a process says at its end what processor time it took
TICKS = os.sysconf("SC_CLK_TCK")


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
      status: its exit status; the negative number of the signal that ended it.
      hangs: whether it was ended because it no longer computed, or computed for too long.
      out, err: what it wrote. A progress bar's lines end with a carriage return and are left out.
      seconds: processor time, that of its children included; infinite if it was killed.
    """

    status: int
    hangs: bool
    out: str
    err: list[str]
    seconds: float

    @property
    def last(self) -> str:
        """The last line of stderr."""
        return self.err[-1] if self.err else ""

    @property
    def crashed(self) -> bool:
        """Whether there is a traceback, or a signal ended the process."""
        return self.status < 0 or any("Traceback" in line for line in self.err)

    @property
    def broken(self) -> Verdict | None:
        """What it is if it hangs or has crashed; None if it has ended in order."""
        if self.hangs:
            return Verdict.HANG
        return Verdict.TRACEBACK if self.crashed else None

    @property
    def is_one_line(self) -> bool:
        """Whether it ended with status 2, the last line is an error, and all are printable."""
        foreign = any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in "".join(self.err))
        errors = [line for line in self.err if line.startswith("error: ")]
        return self.status == 2 and errors == [self.last] and not foreign


class Running:
    """A process that runs a function, with its output in files of a folder."""

    def __init__(self, folder: Path, function: Callable[..., Any], *arguments: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in OUTPUTS:
            (folder / name).write_bytes(b"")
        (folder / USED).unlink(missing_ok=True)
        self.folder = folder
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(COMMANDS))
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(ROOT)  # the forking process imports by it
        try:
            self._process = context.Process(target=_run, args=(folder, function, arguments))
            self._process.start()
        finally:
            if path is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = path

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def seconds(self) -> float:
        """Processor time so far, to a hundredth of a second; infinite if it has ended."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return float("inf")
        return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / TICKS

    def kill(self) -> None:
        """Kills it at once."""
        self._process.kill()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def wait(self) -> Ended:
        """Waits for its end, and ends it if it hangs.

        Looks are counted and not seconds: whoever stops all processes for an hour makes none hang.
        """
        hangs, last, idle = False, 0.0, 0
        while not wait([self._process.sentinel], timeout=WAIT):
            now = self.seconds()
            idle = 0 if now >= last + 0.01 else idle + 1
            last = max(now, last)
            if idle == IDLE:
                hangs = True
                self.kill()
        self._process.join()
        status, used = self._process.exitcode, self.folder / USED
        hangs = hangs or status == -signal.SIGXCPU
        texts = ((self.folder / name).read_bytes().decode("utf-8", "replace") for name in OUTPUTS)
        out, err = (re.sub(r"[^\n]*\r", "", text) for text in texts)
        seconds = float(used.read_text()) if used.exists() else float("inf")
        return Ended(status, hangs, out, [x for x in err.split("\n") if x], seconds)


def start(folder: Path, command: str, *flags: str) -> Running:
    """Starts a command by the name of its module; its output goes into the folder."""
    return Running(folder, call_command, command, flags)


def run(folder: Path, command: str, *flags: str) -> Ended:
    """Runs a command to its end."""
    return start(folder, command, *flags).wait()


def call_command(command: str, flags: tuple[str, ...]) -> int:
    """Calls a command in this process."""
    sys.argv = [command, *flags]
    return importlib.import_module(command).main(list(sys.argv))


def _run(folder: Path, function: Callable[..., Any], arguments: tuple) -> None:
    """Calls a function in a process of its own, whose output goes into files."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it ends with who has started it
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST + 5))
    for number, name in enumerate(OUTPUTS, 1):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(ROOT)
    status = function(*arguments)
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    atexit._run_exitfuncs()  # helpers end, and count
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(each) for each in who]
    (folder / USED).write_text(str(sum(u.ru_utime + u.ru_stime for u in used)))
    sys.exit(status)
