"""Reads a text file of anyone."""

import os
import stat
from pathlib import Path

MOST_BYTES = 500_000_000  # of a file of which no caller says how large it may be


def read_text(file: Path, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Args:
      file: the file.
      most: the largest number of bytes that it may have.

    Raises:
      ValueError: the file is no regular file, is larger, is no UTF-8 text, or is what a failed
        download left.
      OSError: the file cannot be read.
    """
    data = read_bytes(file, most)
    try:
        text = data.decode("utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError:
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        found = "UTF-16 text" if utf16 else "no UTF-8 text"
        raise ValueError(f"{file}: {found}: save it as UTF-8") from None
    start = text[:64].lstrip().lower()
    if start.startswith("version https://git-lfs"):
        raise ValueError(f"{file}: a pointer of git-lfs and not the file: run git lfs pull there")
    if start.startswith(("<!doctype", "<html")):
        raise ValueError(f"{file}: a web page and not the file: download it again")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(file: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file. Nothing else is waited for, such as a pipe that nobody fills.

    Args:
      file: the file.
      most: the largest number of bytes that it may have.

    Raises:
      ValueError: the file is no regular file, or is larger.
      OSError: the file cannot be read.
    """
    # Without O_NONBLOCK, to open a named pipe waits for whoever writes to it.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{file}: not a regular file")
    with open(descriptor, "rb") as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{file}: has more than {most:,} bytes, which is too much for what it is")
    return data
