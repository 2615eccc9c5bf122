"""Files of JSON records, told from text files by their content and read record by record.

The name of a file says nothing here, because .json, .jsonl, .ndjson and no suffix at all are used
for the same files. A record is an object, a list of messages, or a text between quotes. A file that
begins with "{" holds records: usually one in each line, but a record may span lines, and several
may share one. So does a file that begins with a list of messages, that has only JSON lists or only
texts between quotes in its lines, or whose second line is an object: its first line is damaged
then. Any other file that begins with "[" holds an array of records, if an object (or nothing)
follows the bracket, or if the whole file is JSON. A comma after the last record of an array, or
after a record at the end of its line, is let through. A table (CSV) is refused. Any other file is
text: "[INST] Hello" is a text.

Between records, white space, all kinds of line ends, a byte order mark, the separators of JSON text
sequences, and comments (from "#" or "//" to the end of the line) do not matter.

A file may be larger than memory. Only one record and one window of bytes are held at a time.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

from data.text.json_window import BLANK, BOM, WINDOW, Window, begin_of, line_at, line_ends
from files.json_text import read_json, said_twice, why_not_json

Kind = Literal["records", "array", "text"]

# The first bytes of files that are no plain text, and what to do about them.
FOREIGN = {
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"\x1f\x8b": "compressed by gzip: decompress it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first",
    b"version https://git-lfs": "a pointer of git-lfs: run git lfs pull in its folder",
    b"BZh91AY&SY": "compressed by bzip2: decompress it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"PAR1\x15": "a Parquet file: save it as JSON lines first",
    b"ARROW1\0\0": "an Arrow file: save it as JSON lines first",
}
# Short names with one of COLUMNS among their words are the header of a table. A line of several
# texts in quotes is a row of a table.
_NAME = re.compile(r"(?:[\w.-]+ ?){0,3}|Unnamed: \d+")
_ROW = re.compile(r'"[^"]*"(?:\s*[,;|\t]\s*"[^"]*")+')
COLUMNS = {
    *("prompt", "prompts", "response", "completion", "instruction", "messages", "text"),
    *("conversation", "conversations", "question", "answer", "query", "input", "output"),
    *("user", "assistant", "content"),
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
    window = Window(file)
    at, _ = window.after_blanks(begin_of(file))
    first, inside = window.at(at, 1), window.after_blanks(at + 1)[0]
    if first == b"{":
        return "records"
    if first == b"[" and window.at(inside, 1) in (b"{", b""):
        return "records" if _is_message(window, inside) else "array"
    if first == b"[" and _is_json(file, at):
        return "array"
    line = line_at(file, at)
    if first == b"[" and _fault(line) is None:
        return "records"
    allowed = {b'"': (None,), b"[": (None, NO_RECORD)}.get(first, ())
    if allowed and all(item.fault in allowed for item in _scan_records(file)):
        return "records"
    if not head.removeprefix(BOM).strip(BLANK):
        raise ValueError("the file is empty")
    if _is_table(window.at(at, WINDOW).decode(errors="replace")):
        raise ValueError(
            "the file is a table, as CSV files are: save it as JSON lines, one object in each line"
        )
    later = line_at(file, window.after_blanks(at + len(line))[0]).strip()
    if later.startswith((b"{", b"[{")) and later != b"{}" and _fault(later) is None:
        return "records"
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
    except ValueError as error:
        raise ValueError(_not_json(error)) from None
    if not _is_record(value):
        raise ValueError(NO_RECORD)
    return value


NO_RECORD = "expected an object"


def _is_record(value: Any) -> bool:
    is_list = isinstance(value, list) and value and all(isinstance(v, dict) for v in value)
    return isinstance(value, dict | str) or bool(is_list)


def _is_json(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    try:
        read_json(file.read().decode())
    except ValueError:
        return False
    return True


def _is_message(window: Window, start: int) -> bool:
    """Whether the value that begins at a byte is a message of a conversation."""
    try:
        value, _ = window.value(start)
    except (ValueError, RecursionError):
        return False
    names = value.keys() if isinstance(value, dict) else set()
    return bool(names & {"role", "from"} and names & {"content", "value", "tool_calls"})


def _is_table(text: str) -> bool:
    """Whether a text begins as a table of prompts or conversations does: a header and a row."""
    for sign in ",;\t|":
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=sign, skipinitialspace=True)
        rows = itertools.islice(filter(None, lines), 2)
        try:
            header, row = ([field.strip() for field in fields] for fields in rows)
        except (ValueError, csv.Error):  # fewer than two rows
            continue
        words = {word for name in header for word in re.split(r"[\W_]+", name.lower())}
        named = all(map(_NAME.fullmatch, header)) and header[-1] and words & COLUMNS
        quoted = _ROW.fullmatch(text.splitlines()[0].strip())
        if ((named or quoted) and len(header) == len(row) > 1) or header == ["prompt"]:
            return True
    return False


def _not_json(error: Exception, line: int | None = None) -> str:
    """What is wrong with a JSON text. `line` is the number of its first line in the file."""
    if not isinstance(error, json.JSONDecodeError):
        return f"not JSON: {why_not_json(error)}"
    where = f"character {error.pos + 1}"
    if line is not None and error.lineno > 1:
        where = f"line {line + error.lineno - 1}"
    return f"not JSON: {why_not_json(error)} at {where}"


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
    window, at, number = Window(file), begin_of(file), 1
    while True:
        at, lines = window.after_blanks(at)
        number += lines
        if not window.at(at, 1):
            return
        place, spanned, fault = f"line {number}", False, ""
        try:
            value, text = window.value(at)
            end = at + len(text)
            end += window.at(end, 1) == b","
            if _is_record(value) and _ends(window, end):
                yield _item(number, place, at, value, text, window.twice)
                at, number = end, number + line_ends(text)
                continue
        except json.JSONDecodeError as error:
            # An object that spans lines is damaged. An error in the first two lines is rather that
            # of an object that was cut off within its line.
            if spanned := error.lineno > 2:
                fault = _not_json(error, number)
        except (ValueError, RecursionError):
            pass
        line = line_at(file, at)
        why = fault or _fault(line) or "expected one record"
        yield Item(number, place, at, len(line), {}, why)
        at, number = at + len(line), number + 1
        while spanned and (line := line_at(file, at)) and not line.startswith((b"{", b"[")):
            at, number = at + len(line), number + 1


def _fault(line: bytes) -> str | None:
    """Why a line is not a record; None if it is one."""
    try:
        parse(line)
    except ValueError as error:
        return str(error)
    return None


def _ends(window: Window, at: int) -> bool:
    """Whether nothing but another record follows in the line."""
    after, lines = window.after_blanks(at)
    return lines > 0 or window.at(after, 1) in (b"", b"{", b"[")


def _scan_array(file: BinaryIO) -> Iterator[Item]:
    window, line = Window(file), 1

    def skip(start: int) -> int:
        nonlocal line
        end, lines = window.after_blanks(start)
        line += lines
        return end

    at, number = skip(skip(begin_of(file)) + 1), 0
    while window.at(at, 1) != b"]":
        number += 1
        place = f"record {number} (line {line})"
        try:
            value, text = window.value(at)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: {_not_json(error, line)}") from None
        yield _item(number, place, at, value, text, window.twice)
        line += line_ends(text)
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
