"""Folders of a checkpoint that appear whole or not at all.

A new folder is made beside its place (files/staging.py) and gets its name in one step.

Files of a folder that is there are replaced in two steps. First, when all new files are complete,
they get the name FOLDER/save.unfinished in one step. This decides: before it the folder holds the
old model, after it the new one. Then the files are moved to their places one by one, each over the
old file of its name. So there is never a moment without a model. If the process is killed while it
moves files, the next one that saves into the folder or reads it through `finish` moves the rest.
Only a reader that does not know of save.unfinished, or that reads while files are moved, may see
new files beside old ones.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from diffusiongemma.formats.checks import CheckpointError
from files.staging import ENDING, is_staging, staging, sweep
from files.whole_file import remove_empty

# Files that make a folder look like a checkpoint. They are moved last: in a folder that was empty,
# they say that the others are there.
MARKS = ("_METADATA", "config.json", "adapter_config.json")
SAVE = "save"
READY = SAVE + ENDING  # complete files on their way into the folder
TAKEN = "another process has made it meanwhile"


@contextlib.contextmanager
def staged(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives an empty folder to write to; at the end, its contents become those of `folder`.

    After an error nothing is left of what was written, nor of parent folders that were made for it.
    What processes that were killed left of the same folder is removed, or moved in if it was ready.

    Args:
      folder: the folder to be made, with its parents.
      replace: whether the folder may have files in it. Files of the same names are replaced.

    Raises:
      CheckpointError: the folder is there and not empty, or the disk is full or read-only.
    """
    target = Path(os.path.abspath(folder))
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        existing = target.exists()
        if existing:
            sweep(target.parent, target.name)
            if not replace and (not target.is_dir() or _files(target)):
                raise CheckpointError(f"{folder}: exists and is not empty: choose a new folder")
            target.mkdir(exist_ok=True)  # raises "File exists" if it is a file
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
        with staging(target / SAVE if existing else target) as new:
            yield new
            if existing and not replace and _files(target):
                raise OSError(errno.ENOTEMPTY, TAKEN)
            if existing:
                _replace(new, target)
            else:
                new.rename(target)
    except BaseException as error:
        remove_empty(made)
        if isinstance(error, OSError):
            raise CheckpointError(f"{folder}: could not be saved: {_cause(error)}") from None
        raise


def finish(folder: Path) -> None:
    """Moves in the files of a save into a folder that was ready when its process was killed.

    Several processes may do this at once: each file is moved by one of them. Without such files
    nothing is done.

    Raises:
      CheckpointError: the files cannot be moved.
    """
    ready = folder / READY
    try:
        entries = sorted(ready.iterdir(), key=lambda entry: (entry.name in MARKS, entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another process has moved it
                entry.replace(folder / entry.name)
        with contextlib.suppress(FileNotFoundError):
            ready.rmdir()
    except OSError as error:
        raise CheckpointError(
            f"{folder}: a save was cut off when its files were ready, and they cannot be moved in "
            f"({error.strerror}): move the files of {ready} into {folder}, over those there"
        ) from None


def _replace(new: Path, folder: Path) -> None:
    """Moves the files of a folder into another one, in the two steps described above."""
    while True:
        finish(folder)
        try:
            new.rename(folder / READY)
            break
        except OSError as error:  # another process is as far
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finish(folder)


def _files(folder: Path) -> list[str]:
    """Names in a folder, without those of staging folders, of which a sweep left the living."""
    return [entry.name for entry in folder.iterdir() if not is_staging(entry.name)]


def _cause(error: OSError) -> str:
    """What a user is told of an error."""
    if error.errno == errno.ENOTEMPTY:  # of the rename
        return TAKEN
    return error.strerror or str(error)
