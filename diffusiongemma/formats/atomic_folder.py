"""Files and folders that appear whole or not at all.

Everything is written under another name and renamed when it is complete. So a full disk, an error
or a killed process never leaves half a file, or half a checkpoint, under the name that was asked
for.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from diffusiongemma.formats.checks import CheckpointError

# Files that make a folder look like a checkpoint. When files in a folder are replaced, these are
# removed first and come last.
MARKS = ("_METADATA", "config.json", "adapter_config.json")


@contextlib.contextmanager
def staged(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Gives an empty folder to write to; at the end, its contents become those of `folder`.

    A new folder gets its name in one step, once it is complete. After an error nothing is left of
    what was written, nor of parent folders that were made for it.

    Args:
      folder: the folder to be made, with its parents.
      replace: whether the folder may have files in it. Files of the same names are replaced.

    Raises:
      CheckpointError: the folder is there and not empty, or the disk is full or read-only.
    """
    existing = folder.exists()
    if existing and not replace and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder}: exists and is not empty: choose a new folder")
    suffix = f".tmp{os.getpid()}"
    target = Path(os.path.abspath(folder))
    temporary = target / suffix if existing else target.with_name(target.name + suffix)
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        if existing:
            folder.mkdir(exist_ok=True)  # raises "File exists" if it is a file
        temporary.mkdir(parents=True)
        yield temporary
        if existing:
            _move_into(temporary, target)
        else:
            temporary.rename(target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(made)
        if isinstance(error, OSError):
            raise CheckpointError(f"{folder}: could not be saved: {error.strerror}") from None
        raise


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes all of the files or none of them: they get their names once all are on the disk.

    Args:
      folder: the folder to write to. It is made, with its parents, if it is not there.
      files: name of a file in the folder -> its contents. Files of the same names are replaced.

    Raises:
      OSError: the folder cannot be made or written, or the disk is full.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    partial = {name: folder / f"{name}.tmp{os.getpid()}" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, contents in files.items():
            with partial[name].open("wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
        for name, path in partial.items():
            path.replace(folder / name)
    except BaseException as error:
        with contextlib.suppress(OSError):
            for path in partial.values():
                path.unlink(missing_ok=True)
        _remove_empty(made)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(folder)) from None
        raise


def write_file(path: Path, contents: bytes) -> None:
    """Writes one file, or leaves what was there; see write_files."""
    write_files(path.parent, {path.name: contents})


def _move_into(temporary: Path, folder: Path) -> None:
    entries = sorted(temporary.iterdir(), key=lambda entry: (entry.name in MARKS, entry.name))
    for entry in entries:
        if entry.name in MARKS:
            (folder / entry.name).unlink(missing_ok=True)
    for entry in entries:
        entry.replace(folder / entry.name)
    temporary.rmdir()


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders, innermost first, up to the first one that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
