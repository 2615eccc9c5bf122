"""Writes records into one page: a file that opens from disk and asks nothing of any network."""

import base64
import errno
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from files.whole_file import write_file
from sample.page.record import Record, dumps

LIMIT = 600_000  # bytes of a page
FOLDER = Path(__file__).parent
# What could end a script element or open a comment in it, and what an editor or a terminal that
# shows the file could obey: control characters, marks of direction, lone surrogates.
UNSAFE = re.compile(
    "[<>&\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
BEGIN = '<script type="application/json" id="records">'
END = "</script>"


class Live(NamedTuple):
    """What a server adds to a page that it sends.

    Attributes:
      html: what stands below the heading.
      script: what follows the script of the page. It may ask the server and nobody else.
    """

    html: str
    script: str


def page(records: Sequence[Record], live: Live | None = None) -> str:
    """The page with these records.

    Args:
      records: at least one record, or none for a page whose records come later.
      live: what a server adds, whose records come later; None for a page that asks nobody.
    """
    style, script = ((FOLDER / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    html, connect = "", "'none'"
    if live is not None:
        html, connect = live.html, "'self'"
        script += live.script
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src 'unsafe-inline'; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    found = (FOLDER / "page.html").read_text("utf-8")
    parts = {"policy": policy, "style": style, "live": html, "script": script}
    parts["records"] = escaped(records)
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], found)


def escaped(records: Sequence[Record]) -> str:
    """The records as a JSON array that can stand in a script element and in any editor."""
    return UNSAFE.sub(_escape, "[" + ",\n".join(map(dumps, records)) + "]")


def check_page(path: Path) -> None:
    """Checks that a page can be written. A command asks this before it begins its work.

    Raises:
      OSError: there is no such folder, it must not be written to, or `path` is no file.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(folder))
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "is no file: give the name of a file", str(path))
    if not all(os.access(each, os.W_OK) for each in (folder, path) if each.exists()):
        raise PermissionError(errno.EACCES, "no permission to write here", str(path))


def write_page(path: Path, records: Sequence[Record]) -> int:
    """Writes a page with as many of the records as fit in LIMIT bytes, at least the first.

    Args:
      path: the file. It is replaced once the page is whole.
      records: at least one.

    Returns:
      the number of records on the page, the first ones.

    Raises:
      OSError: the file cannot be written.
    """
    size, count = len(page([]).encode()), 0
    for record in records:
        size += len(escaped([record]).encode())
        if count and size > LIMIT:
            break
        count += 1
    write_file(path, page(records[:count]).encode())
    return count


def write_and_say(path: Path, records: Sequence[Record], left_out: int = 0) -> str:
    """Writes a page as write_page does; returns a line that says what is on it.

    Args:
      path: the file.
      records: at least one.
      left_out: number of answers that have no record, because a page would not have room for them.

    Raises:
      OSError: the file cannot be written.
    """
    count = write_page(path, records)
    left = len(records) - count + left_out
    answers = f"{count} answer{'s' * (count != 1)}"
    full = f"; the page is full, and {left} more {'is' if left == 1 else 'are'} not on it"
    return f"wrote {path} with {answers}{full if left else ''}"


def _escape(found: re.Match) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
