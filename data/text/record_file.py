"""Files of JSON records, told from text files by their content and read record by record.

The name of a file says nothing here, because .json, .jsonl, .ndjson and no suffix at all are used
for the same files. A file that begins with "{" holds objects: usually one in each line, but an
object may span lines, and several may share one. A file that begins with "[" holds an array, if an
object (or nothing) follows the bracket, or if the whole file is JSON. A comma after the last record
of an array is let through. Any other file is text: "[INST] Hello" is a text. White space between
records, a byte order mark and the line ends of Windows do not matter.

A file may be larger than memory. Only one record and one window of bytes are held at a time.
"""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

Kind = Literal["objects", "array", "text"]

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
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


class Item(NamedTuple):
    """One record of a file, or what is wrong with it.

    Attributes:
      number: the number of the line in which the record begins. In an array it is the number of the
        record. Both count from 1.
      place: the place in words, such as "line 3" or "record 3 (line 41)".
      start: offset of its first byte.
      size: number of its bytes.
      value: the object; {} if there is a fault.
      fault: why there is no object here; None if there is one.
    """

    number: int
    place: str
    start: int
    size: int
    value: dict[str, Any]
    fault: str | None = None


def kind_of(file: BinaryIO) -> Kind:
    """What a file holds, by its content.

    Args:
      file: the file, which can seek.

    Raises:
      ValueError: the file is empty, or it is no text in UTF-8 but compressed, binary or UTF-16.
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
    first, second = window.at(at, 1), window.at(window.after_blanks(at + 1)[0], 1)
    if not first:
        raise ValueError("the file is empty")
    if first == b"{":
        return "objects"
    if first == b"[" and (second in (b"{", b"]", b"") or _is_json(file)):
        return "array"
    return "text"


def scan(file: BinaryIO, kind: Kind) -> Iterator[Item]:
    """Reads the records of a file in their order.

    Args:
      file: the file, which can seek.
      kind: "objects" or "array", as kind_of gives it.

    Raises:
      ValueError: an array is damaged, so that its other records cannot be found. Elsewhere a
        damaged record is an item with a fault.
    """
    return _scan_array(file) if kind == "array" else _scan_objects(file)


def parse(text: bytes) -> dict[str, Any]:
    """The JSON object that is all of a text.

    Raises:
      ValueError: the text is not UTF-8, not JSON, or something else than an object. The error says
        why in one line.
    """
    try:
        value = json.loads(text.rstrip(b"\r\n").decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(_not_json(error)) from None
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


class _Window:
    """The bytes of a file, and the JSON values that begin at them."""

    def __init__(self, file: BinaryIO):
        self._file, self._guess = file, LEAST
        self._start, self._held = 0, b""

    def at(self, start: int, size: int) -> bytes:
        """The bytes [start, start + size), fewer at the end of the file."""
        begin = start - self._start
        if begin < 0 or begin + size > len(self._held):
            self._file.seek(start)
            self._start, self._held, begin = start, self._file.read(max(size, WINDOW)), 0
        return self._held[begin : begin + size]

    def after_blanks(self, start: int) -> tuple[int, int]:
        """(the offset of the first byte from `start` on that is not blank, the lines before it)."""
        lines = 0
        while piece := self.at(start, 64):
            rest = piece.lstrip(BLANK)
            blank = len(piece) - len(rest)
            start, lines = start + blank, lines + piece.count(b"\n", 0, blank)
            if rest:
                break
        return start, lines

    def value(self, start: int) -> tuple[Any, bytes]:
        """The JSON value that begins at a byte, and its bytes.

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
                value, end = _DECODER.raw_decode(text)
                break
            except json.JSONDecodeError as error:
                if len(piece) < size or not _is_cut(error):
                    raise
            size *= 4
        found = text[:end].encode(errors="surrogateescape")
        self._guess = max(LEAST, 2 * len(found))
        return value, found


_DECODER = json.JSONDecoder()


def _begin(file: BinaryIO) -> int:
    """The offset of the text, after a byte order mark if there is one."""
    file.seek(0)
    return len(BOM) if file.read(len(BOM)) == BOM else 0


def _is_json(file: BinaryIO) -> bool:
    file.seek(_begin(file))
    try:
        json.loads(file.read())
    except (ValueError, RecursionError):
        return False
    return True


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


def _item(number: int, place: str, start: int, value: Any, text: bytes) -> Item:
    """The item of a value that was read."""
    fault = None if isinstance(value, dict) else "expected an object"
    try:
        text.decode()
    except UnicodeDecodeError:
        fault = "not UTF-8"
    return Item(number, place, start, len(text), {} if fault else value, fault)


def _scan_objects(file: BinaryIO) -> Iterator[Item]:
    window, at, number = _Window(file), _begin(file), 1
    while True:
        at, lines = window.after_blanks(at)
        number += lines
        if not window.at(at, 1):
            return
        place, spanned, fault = f"line {number}", False, ""
        try:
            value, text = window.value(at)
            if isinstance(value, dict) and _ends(window, at + len(text)):
                yield _item(number, place, at, value, text)
                at, number = at + len(text), number + text.count(b"\n")
                continue
        except json.JSONDecodeError as error:
            # An object that spans lines is damaged. An error in the first two lines is rather that
            # of an object that was cut off within its line.
            if spanned := error.lineno > 2:
                fault = _not_json(error, number)
        except (ValueError, RecursionError):
            pass
        line = _line(file, at)
        yield Item(number, place, at, len(line), {}, fault or _fault(line))
        at, number = at + len(line), number + 1
        while spanned and (line := _line(file, at)) and not line.startswith(b"{"):
            at, number = at + len(line), number + 1


def _fault(line: bytes) -> str:
    """Why a line is not a record."""
    try:
        parse(line)
    except ValueError as error:
        return str(error)
    return "expected one object"


def _line(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.readline()


def _ends(window: _Window, at: int) -> bool:
    """Whether nothing but another object follows in the line."""
    after, lines = window.after_blanks(at)
    return lines > 0 or window.at(after, 1) in (b"", b"{")


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
        yield _item(number, place, at, value, text)
        line += text.count(b"\n")
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
