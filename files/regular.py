"""Finds pipes, devices and sockets among files. To open one may take without end."""

from collections.abc import Iterable
from pathlib import Path

SPECIAL = "is a pipe, a device or a socket, and no file: remove it"


def special_among(paths: Iterable[Path]) -> Path | None:
    """The first of some paths that leads to neither a file nor a folder; None if there is none.

    A link that leads nowhere is not one.
    """
    return next((p for p in paths if p.exists() and not (p.is_file() or p.is_dir())), None)
