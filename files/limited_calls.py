"""What runs in the helper process of files/limited.py, and how the two processes talk.

A message is its length and its bytes. A call is two messages: the pickled arguments, and more of
them. A reply is two: RETURNED or RAISED, and a text. It is never unpickled, because that can run
code.
"""

import codecs
import importlib
import os
import pickle
import resource
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# A call may take so much, unless whoever makes a Limited says otherwise.
SECONDS = 0.75  # of processor time for a call, in which other work on the machine does not count
MEMORY = 256 << 20  # bytes that the helper may have beyond those at its start
# How much more data, in bytes, may take a second more; and how much more memory a byte may take.
DATA_OF_A_SECOND = 10_000
MEMORY_OF_A_BYTE = 16
LONGEST_ERROR = 10_000  # characters

RETURNED, RAISED = b"returned", b"raised"
OUT_OF_MEMORY = 3  # an exit status
_LENGTH = struct.Struct("<Q")


def send(pipe: BinaryIO, *messages: bytes) -> None:
    """Writes messages."""
    for message in messages:
        pipe.write(_LENGTH.pack(len(message)))
        pipe.write(message)
    pipe.flush()


def receive(pipe: BinaryIO) -> bytes:
    """Reads a message. Raises EOFError if the pipe ends before the message does."""
    return _read(pipe, _LENGTH.unpack(_read(pipe, _LENGTH.size))[0])


def _read(pipe: BinaryIO, size: int) -> bytes:
    found = pipe.read(size)
    if len(found) < size:
        raise EOFError
    return found


def serve() -> None:
    """Answers calls of the function that the command line names, until there are no more."""
    calls, replies = sys.stdin.buffer, sys.stdout.buffer
    module, name = sys.argv[1].split(":")
    seconds, memory = float(sys.argv[2]), int(sys.argv[3])
    function = getattr(importlib.import_module(module), name)
    time.localtime()  # reads the time zone's file
    for encoding in ("unicode_escape", "raw_unicode_escape", "ascii", "latin_1", "utf_8"):
        codecs.lookup(encoding)  # imports it
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends the process
    warnings.simplefilter("ignore")  # they are about the foreign program
    start = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    while True:
        try:
            program, data = receive(calls), receive(calls)
        except EOFError:
            return
        arguments = pickle.loads(program) + pickle.loads(data)
        _limit_memory(start + memory + MEMORY_OF_A_BYTE * len(data))
        signal.setitimer(signal.ITIMER_PROF, seconds + len(data) / DATA_OF_A_SECOND)
        try:
            reply = _reply(function, arguments)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(replies, *reply)


def _reply(function: Callable[..., str], arguments: tuple) -> tuple[bytes, bytes]:
    try:
        kind, text = RETURNED, function(*arguments)
    except MemoryError:
        raise
    except Exception as error:
        kind, text = RAISED, one_line(error)
    return kind, text.encode(errors="surrogatepass")


def one_line(error: Exception, longest: int = LONGEST_ERROR) -> str:
    """The message of an error in one line, of which so many characters are shown."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]} ..."


def _limit_memory(size: int) -> None:
    """Lets the process have so many bytes of addresses."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
