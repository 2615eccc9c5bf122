"""Tells files from pipes, devices and sockets, which might be waited for without end."""

import os
import stat
from pathlib import Path


def is_regular(file: Path) -> bool:
    """Whether a path leads to a regular file. Raises OSError if it leads nowhere."""
    return stat.S_ISREG(file.stat().st_mode)


def not_regular_in(folder: Path) -> Path | None:
    """The first path below a folder that leads to neither a file nor a folder; None if all do."""
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(parent, name)
            if path.exists() and not is_regular(path):
                return path
    return None
