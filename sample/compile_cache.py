"""Compiled programs kept on disk from one run to the next.

A kept program is machine code that runs as it is, so whoever can write into the folder can run code
here. A folder of ours is closed to others. One that somebody has named is not used if anybody can
write there.
"""

import contextlib
import os
import stat
from pathlib import Path

import jax

from files.printable import tell


def enable() -> Path | None:
    """Turns on JAX's persistent compilation cache. Commands call this before they compile.

    The folder is diffusiongemma/jax in XDG_CACHE_HOME, or in ~/.cache. The environment variable
    JAX_COMPILATION_CACHE_DIR names another folder; if it is empty, there is no cache. A folder that
    others can write to is not used, and stderr says so.

    Returns:
      the folder, which is made now or when JAX keeps a program; None if there is no cache.
    """
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder: Path | None = Path(home) / "diffusiongemma" / "jax"
    if named is None:
        _close(folder)
    else:
        folder = Path(named) if named else None
    if folder and (why := _hindrance(folder, ours=named is None)):
        tell(
            f"{folder}: {why}, and compiled programs in it would be run, so none are kept: "
            "JAX_COMPILATION_CACHE_DIR=FOLDER names another folder"
        )
        folder = None
    jax.config.update("jax_compilation_cache_dir", str(folder) if folder else None)
    return folder


def _close(folder: Path) -> None:
    """Makes our folder, and takes from others what they may do in it."""
    with contextlib.suppress(OSError):  # what cannot be made or closed is looked at below
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)


def _hindrance(folder: Path, ours: bool) -> str:
    """Why a folder is not used; "" if it is."""
    try:
        found = folder.stat()
    except OSError:  # it is not there yet
        return ""
    if ours and found.st_uid != os.geteuid():
        return "belongs to another user"
    others = stat.S_IWOTH | stat.S_IWGRP if ours else stat.S_IWOTH
    return "can be written to by others" if found.st_mode & others else ""
