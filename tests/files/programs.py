"""Functions that tests call in a helper process."""

import os
import socket
import time


def echo(*values) -> str:
    """What it was given."""
    return "".join(map(str, values))


def work(seconds: float, _: bytes = b"") -> str:
    """Takes so many seconds of processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return "done"


def fill(size: int) -> str:
    """Takes so many bytes of memory."""
    return str(len(bytes(size)))


def nest(depth: int) -> str:
    """Calls itself."""
    return nest(depth - 1) if depth else "done"


def read(file: str) -> str:
    """Reads a file."""
    with open(file) as opened:
        return opened.read()


def connect() -> str:
    """Opens a connection."""
    with socket.socket():
        return "open"


def number() -> str:
    """The number of the process."""
    return str(os.getpid())


def leave() -> str:
    """Ends the process."""
    os._exit(7)
