"""Places where files and folders are made before they get their names.

A staging folder is called NAME.XXXXXXXXXXXXXXXX.unfinished, with 16 random hexadecimal digits. It
lies beside what will be called NAME and holds two entries:
  lock: a file that the writer holds locked as long as it lives (lock.py).
  new: the folder that the writer fills.
A folder whose lock is free was left by a writer that is dead, and whoever comes next removes it. No
process id has a part in this: in containers, ids repeat.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from files.lock import NO_LOCKS, is_at, take

ENDING = ".unfinished"
NAME = re.compile(r"(.+)\.[0-9a-f]{16}\.unfinished", re.DOTALL)
LOCK, NEW = "lock", "new"


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Gives an empty folder for what will be called `target`, on the same filesystem.

    Leftovers of dead writers of the same name are removed first. What is still in the folder at the
    end is removed with it; the folder itself may be gone by then, renamed to the target.

    Args:
      target: the name, in a folder that is there.

    Raises:
      OSError: the folder cannot be made.
    """
    sweep(target.parent, target.name)
    number = None
    while number is None:
        folder = target.with_name(f"{target.name}.{secrets.token_hex(8)}{ENDING}")
        folder.mkdir()
        try:
            number = _locked(folder / LOCK)
        except OSError:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
            raise
    try:
        (folder / NEW).mkdir()
        yield folder / NEW
    finally:
        _remove(folder)
        os.close(number)


def is_staging(name: str) -> bool:
    """Whether a name is that of a staging folder, of a living writer or of a dead one."""
    return NAME.fullmatch(name) is not None


def sweep(folder: Path, name: str | None = None) -> None:
    """Removes what dead writers left in a folder. What cannot be removed stays.

    What a writer left on a filesystem without locks stays too, for nobody knows that it is dead.

    Args:
      folder: the folder, which need not be there.
      name: the name that the writers were making; None for every name.
    """
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            found = NAME.fullmatch(entry.name)
            if found and name in (None, found[1]) and not entry.is_symlink():
                _remove_if_dead(entry)


def _locked(file: Path) -> int | None:
    """Makes the lock's file and takes its lock; None if a sweep came first and removed it."""
    try:
        number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileNotFoundError:  # the folder had no lock yet, and a sweep removed it
        return None
    try:
        if take(number) and is_at(number, file):
            return number
    except OSError as error:
        if error.errno in NO_LOCKS:
            return number
        os.close(number)
        raise
    os.close(number)
    return None


def _remove_if_dead(folder: Path) -> None:
    """Removes a staging folder if its lock is free, holding the lock meanwhile."""
    try:
        number = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # not more: if it is new, its writer has not made the lock yet
        return
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            if take(number):
                _remove(folder)
    finally:
        os.close(number)


def _remove(folder: Path) -> None:
    """Removes a staging folder. The lock goes last, so that a part that stays is known as dead."""
    shutil.rmtree(folder / NEW, ignore_errors=True)
    with contextlib.suppress(OSError):
        if not (folder / NEW).exists():
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
