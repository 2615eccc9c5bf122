"""Reads a text file."""

from pathlib import Path


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
      ValueError: the file is no UTF-8 text, or is what a failed download left.
      OSError: the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError:
        utf16 = file.read_bytes().startswith((b"\xff\xfe", b"\xfe\xff"))
        found = "UTF-16 text" if utf16 else "no UTF-8 text"
        raise ValueError(f"{file}: {found}: save it as UTF-8") from None
    start = text[:64].lstrip().lower()
    if start.startswith("version https://git-lfs"):
        raise ValueError(f"{file}: a pointer of git-lfs and not the file: run git lfs pull there")
    if start.startswith(("<!doctype", "<html")):
        raise ValueError(f"{file}: a web page and not the file: download it again")
    return text
