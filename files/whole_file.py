"""Files that are written whole or not at all, also if the disk is full or the process is killed."""

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

from files.staging import staging


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes all of the files or none of them: they get their names once all are on the disk.

    Args:
      folder: the folder to write to. It is made, with its parents, if it is not there.
      files: name of a file in the folder -> its contents, at least one. Files of the same names are
        replaced.

    Raises:
      OSError: the folder cannot be made, or a file cannot be written, because the disk is full for
        example. It names the file.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    at = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        at = folder / next(iter(files))
        with staging(at) as new:
            for name, contents in files.items():
                at = folder / name
                with (new / name).open("wb") as file:
                    file.write(contents)
                    file.flush()
                    os.fsync(file.fileno())
            for name in files:
                at = folder / name
                (new / name).replace(at)
    except BaseException as error:
        remove_empty(made)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(at)) from None
        raise


def write_file(path: Path, contents: bytes) -> None:
    """Writes one file, or leaves what was there; see write_files."""
    write_files(path.parent, {path.name: contents})


def remove_empty(folders: list[Path]) -> None:
    """Removes folders, innermost first, up to the first one that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


class GrowingFile:
    """A file to which pieces are added at its end, each of them whole or not at all.

    A piece is in the file as soon as it is added, so a killed process loses none.

    Args:
      path: the file. It is made if it is not there.

    Raises:
      OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def add(self, piece: bytes) -> None:
        """Adds a piece. If that fails with an OSError, which names the file, it is as before."""
        size = os.fstat(self._number).st_size
        try:
            if os.write(self._number, piece) < len(piece):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._number, size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def close(self) -> None:
        """Closes the file."""
        os.close(self._number)
