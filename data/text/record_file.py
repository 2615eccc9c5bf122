"""Files of JSON records, told from text files by their content and read record by record.

The name of a file says nothing here, because .json, .jsonl, .ndjson and no suffix at all are used
for the same files. A record is an object, a list of messages, or a text between quotes. A file that
begins with "{" holds records: usually one in each line, but a record may span lines, and several
may share one. So does a file whose first line is a JSON text or a JSON list, or begins a list of
messages. Any other file that begins with "[" holds an array of records, if an object (or nothing)
follows the bracket, or if the whole file is JSON. A comma after the last record of an array is let
through. Any other file is text: "[INST] Hello" is a text. A table with the names of columns in its
first line is refused.

Between records, white space, all kinds of line ends, a byte order mark, the separators of JSON text
sequences, and comments (from "#" or "//" to the end of the line) do not matter.

A file may be larger than memory. Only one record and one window of bytes are held at a time.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

from data.text.json_text import json_decoder, read_json, said_twice

Kind = Literal["records", "array", "text"]

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n\x1e"  # \x1e stands before each record of a JSON text sequence
COMMENTS = (b"#", b"//")
WINDOW = 2**16  # bytes that are read at least
LEAST = 2**12  # bytes that are decoded at least
# The first bytes of files that are no plain text, and what to do about them.
FOREIGN = {
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"\x1f\x8b": "compressed by gzip: decompress it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first",
    b"BZh91AY&SY": "compressed by bzip2: decompress it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"PAR1\x15": "a Parquet file: save it as JSON lines first",
    b"ARROW1\0\0": "an Arrow file: save it as JSON lines first",
}
# A line of such words alone, between commas and the like, is the header of a table if one
# of COLUMNS is among them.
_HEADER = re.compile(r"""\s*["']?(\w+)["']?(?:\s*[,;|\t]\s*["']?(\w+)["']?)*\s*""", re.ASCII)
COLUMNS = {
    *("prompt", "prompts", "response", "completion", "instruction", "messages"),
    *("conversation", "conversations", "question"),
}


class Item(NamedTuple):
    """One record of a file, or what is wrong with it.

    Attributes:
      number: the number of the line in which the record begins. In an array it is the number of the
        record. Both count from 1.
      place: the place in words, such as "line 3" or "record 3 (line 41)".
      start: offset of its first byte.
      size: number of its bytes.
      value: the record: an object, a list of objects, or a text; {} if there is a fault.
      fault: why there is no record here; None if there is one.
    """

    number: int
    place: str
    start: int
    size: int
    value: dict[str, Any] | list[dict[str, Any]] | str
    fault: str | None = None


def kind_of(file: BinaryIO) -> Kind:
    """What a file holds, by its content.

    Args:
      file: the file, which can seek.

    Raises:
      ValueError: the file is empty, it is no text in UTF-8 but compressed, binary or UTF-16, or it
        is a table with a header.
    """
    file.seek(0)
    head = file.read(WINDOW)
    for start, what in FOREIGN.items():
        if head.startswith(start):
            raise ValueError(f"the file is {what}")
    if b"\0" in head:
        raise ValueError("the file has NUL bytes, as binary files and UTF-16 do: expected UTF-8")
    window = _Window(file)
    at, _ = window.after_blanks(_begin(file))
    first, inside = window.at(at, 1), window.after_blanks(at + 1)[0]
    if first == b"{":
        return "records"
    if first == b"[" and window.at(inside, 1) in (b"{", b"]", b""):
        return "records" if _is_message(window, inside) else "array"
    if first == b"[" and _is_json(file, at):
        return "array"
    if first in (b"[", b'"') and _fault(_line(file, at)) in (None, NO_RECORD):
        return "records"
    if not head.removeprefix(BOM).strip(BLANK):
        raise ValueError("the file is empty")
    line = _line(file, at)
    columns = _columns(line)
    if columns and window.at(window.after_blanks(at + len(line))[0], 1):
        raise ValueError(
            f"the file is a table with the columns {', '.join(columns)}: save it as JSON lines, "
            "one object in each line"
        )
    return "text"


def scan(file: BinaryIO, kind: Kind) -> Iterator[Item]:
    """Reads the records of a file in their order.

    Args:
      file: the file, which can seek.
      kind: "records" or "array", as kind_of gives it.

    Raises:
      ValueError: an array is damaged, so that its other records cannot be found. Elsewhere a
        damaged record is an item with a fault.
    """
    return _scan_array(file) if kind == "array" else _scan_records(file)


def parse(text: bytes) -> dict[str, Any] | list[dict[str, Any]] | str:
    """The record that is all of a text.

    Raises:
      ValueError: the text is not UTF-8, not JSON, or no record. The error says why in one line.
    """
    try:
        value = read_json(text.rstrip(b"\r\n").decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(_not_json(error)) from None
    if not _is_record(value):
        raise ValueError(NO_RECORD)
    return value


NO_RECORD = "expected an object"


def _is_record(value: Any) -> bool:
    is_list = isinstance(value, list) and value and all(isinstance(v, dict) for v in value)
    return isinstance(value, dict | str) or bool(is_list)


class _Window:
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
        skipped = b""
        while piece := self.at(start, 64):
            blank = piece[: len(piece) - len(piece.lstrip(BLANK))]
            if piece.startswith(COMMENTS):
                blank = _line(self._file, start)
            if not blank:
                break
            start, skipped = start + len(blank), skipped + blank
        return start, _line_ends(skipped)

    def value(self, start: int) -> tuple[Any, bytes]:
        """The JSON value that begins at a byte, and its bytes. `twice` gets keys that are repeated.

        Raises:
          ValueError: there is no JSON value.
          RecursionError: it has too many brackets within each other.
        """
        size = self._guess
        while True:
            piece = self.at(start, size)
            # The window may cut a character. Bytes that are not UTF-8 are the caller's business.
            text = piece.decode(errors="surrogateescape")
            try:
                self.twice.clear()
                value, end = self._decoder.raw_decode(text)
                break
            except json.JSONDecodeError as error:
                if len(piece) < size or not _is_cut(error):
                    raise
            size *= 4
        found = text[:end].encode(errors="surrogateescape")
        self._guess = max(LEAST, 2 * len(found))
        return value, found


def _begin(file: BinaryIO) -> int:
    """The offset of the text, after a byte order mark if there is one."""
    file.seek(0)
    return len(BOM) if file.read(len(BOM)) == BOM else 0


def _is_json(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    try:
        json.loads(file.read())
    except (ValueError, RecursionError):
        return False
    return True


def _is_message(window: _Window, start: int) -> bool:
    """Whether the value that begins at a byte is a message of a conversation."""
    try:
        value, _ = window.value(start)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or "from" in value)


def _columns(line: bytes) -> list[str]:
    """The names of columns, if a line is the header of a table of prompts or conversations."""
    header = line[:1000].decode(errors="replace")
    words = re.findall(r"\w+", header) if _HEADER.fullmatch(header.rstrip()) else []
    return words if COLUMNS.intersection(map(str.lower, words)) else []


def _line_ends(text: bytes) -> int:
    """The number of line ends, each of which is \\n, \\r or both."""
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether a text may be no JSON only because it ends too early."""
    # 16 characters are more than a literal or an escape that is cut has.
    return error.msg.startswith("Unterminated string") or error.pos > len(error.doc) - 16


def _not_json(error: Exception, line: int | None = None) -> str:
    """What is wrong with a JSON text. `line` is the number of its first line in the file."""
    if not isinstance(error, json.JSONDecodeError):  # too long a number, or too deep brackets
        return f"not JSON: {error}"
    where = f"character {error.pos + 1}"
    if line is not None and error.lineno > 1:
        where = f"line {line + error.lineno - 1}"
    return f"not JSON: {error.msg.removesuffix(' at')} at {where}"


def _item(number: int, place: str, start: int, value: Any, text: bytes, twice: list[str]) -> Item:
    """The item of a value that was read."""
    fault = None if _is_record(value) else NO_RECORD
    if twice:
        fault = said_twice(twice)
    try:
        text.decode()
    except UnicodeDecodeError:
        fault = "not UTF-8"
    return Item(number, place, start, len(text), {} if fault else value, fault)


def _scan_records(file: BinaryIO) -> Iterator[Item]:
    window, at, number = _Window(file), _begin(file), 1
    while True:
        at, lines = window.after_blanks(at)
        number += lines
        if not window.at(at, 1):
            return
        place, spanned, fault = f"line {number}", False, ""
        try:
            value, text = window.value(at)
            if _is_record(value) and _ends(window, at + len(text)):
                yield _item(number, place, at, value, text, window.twice)
                at, number = at + len(text), number + _line_ends(text)
                continue
        except json.JSONDecodeError as error:
            # An object that spans lines is damaged. An error in the first two lines is rather that
            # of an object that was cut off within its line.
            if spanned := error.lineno > 2:
                fault = _not_json(error, number)
        except (ValueError, RecursionError):
            pass
        line = _line(file, at)
        why = fault or _fault(line) or "expected one record"
        yield Item(number, place, at, len(line), {}, why)
        at, number = at + len(line), number + 1
        while spanned and (line := _line(file, at)) and not line.startswith((b"{", b"[")):
            at, number = at + len(line), number + 1


def _fault(line: bytes) -> str | None:
    """Why a line is not a record; None if it is one."""
    try:
        parse(line)
    except ValueError as error:
        return str(error)
    return None


def _line(file: BinaryIO, start: int) -> bytes:
    """The bytes from `start` on up to the end of their line, with that end."""
    file.seek(start)
    return b"".join(file.readline().splitlines(keepends=True)[:1])


def _ends(window: _Window, at: int) -> bool:
    """Whether nothing but another record follows in the line."""
    after, lines = window.after_blanks(at)
    return lines > 0 or window.at(after, 1) in (b"", b"{", b"[")


def _scan_array(file: BinaryIO) -> Iterator[Item]:
    window, line = _Window(file), 1

    def skip(start: int) -> int:
        nonlocal line
        end, lines = window.after_blanks(start)
        line += lines
        return end

    at, number = skip(skip(_begin(file)) + 1), 0
    while window.at(at, 1) != b"]":
        number += 1
        place = f"record {number} (line {line})"
        try:
            value, text = window.value(at)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: {_not_json(error, line)}") from None
        yield _item(number, place, at, value, text, window.twice)
        line += _line_ends(text)
        at = skip(at + len(text))
        after = window.at(at, 1)
        if after == b",":
            at = skip(at + 1)
        if not window.at(at, 1):
            raise ValueError(f"{place}: the file ends after it, and the array is not closed")
        if after not in (b",", b"]"):
            raise ValueError(f"{place}: not JSON: expected a comma or a bracket after it")
    if window.at(skip(at + 1), 1):
        raise ValueError(f"line {line}: not JSON: text follows the array")
