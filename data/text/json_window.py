"""The bytes of a file that is larger than memory, and the JSON values in it."""

import json
import re
from typing import Any, BinaryIO

from files.json_text import check_depth, json_decoder

BOM = b"\xef\xbb\xbf"
# What editors and copying leave before a text: byte order marks, zero-width and no-break spaces.
_UNSEEN = re.compile(rb"(?:\xef\xbb\xbf|\xe2\x80\x8b|\xc2\xa0)*")
BLANK = b" \t\r\n\x1e"  # \x1e stands before each record of a JSON text sequence
COMMENTS = (b"#", b"//")
WINDOW = 2**16  # bytes that are read at least
LEAST = 2**12  # bytes that are decoded at least


class Window:
    """The bytes of a file, and the JSON values that begin at them."""

    def __init__(self, file: BinaryIO):
        self._file, self._guess = file, LEAST
        self._start, self._held = 0, b""
        self.twice: list[str] = []  # the keys that an object of the last value has twice
        self._decoder = json_decoder(self.twice)

    def at(self, start: int, size: int) -> bytes:
        """The bytes [start, start + size), fewer at the end of the file."""
        begin = start - self._start
        if begin < 0 or begin + size > len(self._held):
            self._file.seek(start)
            self._start, self._held, begin = start, self._file.read(max(size, WINDOW)), 0
        return self._held[begin : begin + size]

    def after_blanks(self, start: int) -> tuple[int, int]:
        """(the offset of the first byte from `start` on that is not blank, the lines before it).

        A comment counts as blank.
        """
        skipped: list[bytes] = []
        while piece := self.at(start, 64):
            blank = piece[: len(piece) - len(piece.lstrip(BLANK))]
            if piece.startswith(COMMENTS):
                blank = line_at(self._file, start)
            if not blank:
                break
            skipped.append(blank)
            start += len(blank)
        return start, line_ends(b"".join(skipped))

    def value(self, start: int) -> tuple[Any, bytes]:
        """The JSON value that begins at a byte, and its bytes. `twice` gets keys that are repeated.

        Raises:
          ValueError: there is no JSON value that files/json_text.py would read.
          RecursionError: it has so many brackets within each other that it could not be read.
        """
        size = self._guess
        while True:
            piece = self.at(start, size)
            # The window may cut a character. Bytes that are not UTF-8 are the caller's business.
            text = piece.decode(errors="surrogateescape")
            try:
                self.twice.clear()
                value, end = self._decoder.raw_decode(text)
                check_depth(value, text)
                break
            except json.JSONDecodeError as error:
                if len(piece) < size or not _is_cut(error):
                    raise
            size *= 4
        found = text[:end].encode(errors="surrogateescape")
        self._guess = max(LEAST, 2 * len(found))
        return value, found


def begin_of(file: BinaryIO) -> int:
    """The offset of the text, after byte order marks and other characters that are not seen."""
    file.seek(0)
    return _UNSEEN.match(file.read(WINDOW)).end()


def line_at(file: BinaryIO, start: int) -> bytes:
    """The bytes from `start` on up to the end of their line, with that end."""
    file.seek(start)
    return b"".join(file.readline().splitlines(keepends=True)[:1])


def line_ends(text: bytes) -> int:
    """The number of line ends, each of which is \\n, \\r or both."""
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether a text may be no JSON only because it ends too early."""
    # 16 characters are more than a literal or an escape that is cut has.
    return error.msg.startswith("Unterminated string") or error.pos > len(error.doc) - 16
