"""Folders that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from diffusiongemma.formats.weights import CheckpointError

# What makes a folder look like a checkpoint: first to go when one is replaced, last to come.
MARKS = ("_METADATA", "config.json", "adapter_config.json")


@contextlib.contextmanager
def staged(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives an empty folder to write to, whose contents become those of `folder` at the end.

    After an error nothing of it is left, nor any parent folder made for it.

    Args:
      folder: to be made, with its parents. A new one gets its name in one step, when complete.
      replace: allows a folder with files in it; those of the same names are replaced.

    Raises:
      CheckpointError: the folder is there and not empty, or the disk is full or read-only.
    """
    existing = folder.exists()
    if existing and not replace and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder}: is there, and not empty: choose a new one")
    suffix = f".tmp{os.getpid()}"
    target = Path(os.path.abspath(folder))
    temporary = target / suffix if existing else target.with_name(target.name + suffix)
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        if existing:
            folder.mkdir(exist_ok=True)  # says so if it is a file
        temporary.mkdir(parents=True)
        yield temporary
        if existing:
            _move_into(temporary, target)
        else:
            temporary.rename(target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError):
            raise CheckpointError(f"{folder}: could not be saved: {error.strerror}") from None
        raise


def _move_into(temporary: Path, folder: Path) -> None:
    entries = sorted(temporary.iterdir(), key=lambda entry: (entry.name in MARKS, entry.name))
    for entry in entries:
        if entry.name in MARKS:
            (folder / entry.name).unlink(missing_ok=True)
    for entry in entries:
        entry.replace(folder / entry.name)
    temporary.rmdir()
