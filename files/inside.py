"""Which files of a folder really are files that lie in it."""

from pathlib import Path

from files.regular import SPECIAL, special_among

OUTSIDE = "is a link to a file outside of its folder: copy that file to its place"


def is_inside(folder: Path, file: Path) -> bool:
    """Whether a file of a folder lies there, or where the Hugging Face cache puts its content.

    Another link could lead to anything on this machine, and what is read from it would go into
    prompts, and into folders that are given away.

    Args:
      folder: the folder. It may itself be a link.
      file: a file in it, or in one of its subfolders.
    """
    root, target = folder.resolve(), file.resolve()
    if target.is_relative_to(root):
        return True
    # models--OWNER--NAME/snapshots/REVISION/FILE is a link to models--OWNER--NAME/blobs/HASH.
    return root.parent.name == "snapshots" and target.parent == root.parent.parent / "blobs"


def check_inside(folder: Path, file: Path) -> None:
    """Raises ValueError if a file of a folder is a link that leads elsewhere, or a pipe."""
    if special_among([file]):
        raise ValueError(f"{file}: {SPECIAL}")
    if not is_inside(folder, file):
        raise ValueError(f"{file}: {OUTSIDE}")
