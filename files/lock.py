"""Locks that the kernel holds for a process and lets go when the process ends, however it ends.

So a killed process leaves no lock behind, whatever its id was and whatever container it ran in. On
filesystems of a network the locks hold between hosts too, if the filesystem has such locks.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from files.printable import printable, tell

# What the kernel answers if a filesystem has no locks.
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
LONGEST = 200  # bytes that are read of what a lock's file says


class Held(OSError):
    """Another process holds the lock.

    Attributes:
      holder: who holds it, such as "process 12 on host a since 2026-11-27 16:20:11 UTC".
    """

    def __init__(self, file: Path, holder: str) -> None:
        super().__init__(errno.EBUSY, f"is held by {holder}", str(file))
        self.holder = holder


@contextlib.contextmanager
def lock(file: Path) -> Iterator[None]:
    """Holds the lock of a file. The file says who holds it, and is removed at the end.

    If the filesystem has no locks, a warning says so, and nothing is held.

    Args:
      file: is made, in a folder that is there. A file that a killed process left is taken over.

    Raises:
      Held: another process holds the lock, or another call in this process.
      OSError: the file cannot be made or written.
    """
    number = None
    while number is None:
        number = _locked(file)
    try:
        _say(number, file)
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
        os.close(number)


def take(number: int) -> bool:
    """Takes the lock of an open file, unless somebody holds it. Returns whether it was taken.

    The lock is held until the file is closed.

    Raises:
      OSError: the filesystem has no locks (NO_LOCKS).
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(number: int, file: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(number), os.stat(file))
    except FileNotFoundError:
        return False


def _locked(file: Path) -> int | None:
    """Opens a file and takes its lock; None if who held it before has just removed the file."""
    number = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not take(number):
            raise Held(file, _said(number))
        if is_at(number, file):
            return number
    except OSError as error:
        if error.errno in NO_LOCKS:
            said = "so nothing keeps two programs from writing here at once"
            tell(f"warning: {file.parent}: the filesystem has no locks, {said}")
            return number
        os.close(number)
        raise
    os.close(number)
    return None


def _say(number: int, file: Path) -> None:
    """Writes into a lock's file who holds it."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = f"process {os.getpid()} on host {socket.gethostname()} since {now}\n".encode()
    try:
        os.ftruncate(number, 0)
        if os.pwrite(number, text, 0) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None


def _said(number: int) -> str:
    """Who holds a lock, as its file says."""
    with contextlib.suppress(OSError):
        text = os.pread(number, LONGEST, 0).decode(errors="replace")
        return printable(" ".join(text.split())) or "another process"
    return "another process"
