"""Prompts from flags, files and pipes."""

import io
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from data.text.contents import sources
from data.text.holes import Hole, Pieces, read_pieces, source
from data.text.json_window import BOM
from data.text.messages import Message
from data.text.record_file import Item, kind_of, scan
from data.text.records import has_turn_tokens, is_record, not_used, parse_record, rendered
from files.printable import tell
from sample.command.demand import FIELDS, from_record

FILL_PROMPT, EDIT_PROMPT = "Fill in the gaps.", "Correct the mistakes."  # without an instruction


class PromptRow(NamedTuple):
    """One prompt, or what is wrong with it.

    Attributes:
      number: the number of its line in a file, or of its record in an array, from 1; None if it is
        not from a file.
      messages: the conversation up to the prompt (data/text/messages.py).
      tools: declarations of tools, for the chat template.
      fault: what is wrong with the row; None if it can be asked.
      place: its place in a file in words, such as "line 3".
      pieces: the text to fill in or edit; None if the model is to write an answer of its own.
      demand: the regular expression that the answer must match; None for that of the flags.
      folder: where relative paths of images begin; None for the working folder.
    """

    number: int | None
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    fault: str | None = None
    place: str = ""
    pieces: Pieces | None = None
    demand: str | None = None
    folder: Path | None = None


def from_pieces(pieces: Pieces, prompt: str | None = None) -> PromptRow:
    """A row with a text to fill in or edit, and with the user's instruction or the usual one."""
    return from_text(_instruction(pieces) if prompt is None else prompt)._replace(pieces=pieces)


def left_to_right(row: PromptRow) -> PromptRow:
    """The row with a fault if only a canvas can do what is asked."""
    fault = None
    if row.pieces and source(row.pieces) is not None:
        fault = "an edit needs a canvas to start from, so it is for --mode=diffusion alone"
    for hole in row.pieces or ():
        if isinstance(hole, Hole) and hole.least < hole.most:
            fault = (
                f"<fill:{hole.least}-{hole.most}> tries lengths on a canvas, so it is for "
                f"--mode=diffusion alone: give one length, as <fill:{hole.most}> does"
            )
    return row._replace(fault=row.fault or fault)


def from_text(text: str, number: int | None = None) -> PromptRow:
    """A row with one message of the user."""
    fault = None if text.strip() else "the prompt is empty"
    if "\0" in text:
        fault = "the prompt has a NUL character"
    messages = [{"role": "user", "content": text}]
    return PromptRow(number, messages, None, fault, f"line {number}" if number else "")


def read_rows(file: Path) -> list[PromptRow]:
    """Reads a file of prompts: JSON records, or a text with one prompt in each line.

    The content of the file decides (data/text/record_file.py), not its name. Blank lines are no
    prompts. A record has one of the forms of data/text/records.py. If it ends with an answer, the
    answer is left out, because it is what the model is asked for. How many answers were left out,
    and which fields are not understood, is said on stderr.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file has no prompts, is neither text nor JSON, or is a damaged array.
    """
    text = file.read_bytes()  # all at once, because the file may be a pipe
    items, damage = _items(str(file), text)
    if damage:
        raise damage
    if items is None:
        return _warned(str(file), _from_lines(text))
    if all(item.fault for item in items):
        first, begin = items[0], text.removeprefix(BOM).lstrip()[:1].decode(errors="replace")
        hint = '. Write a text as {"prompt": "TEXT"}' if first.fault.startswith("not JSON") else ""
        raise ValueError(
            f"{file}: it begins with {begin}, so JSON records are expected, but {first.place}: "
            f"{first.fault}{hint}"
        )
    rows = _from_items(str(file), items)
    home = file.parent if file.is_file() else None  # a pipe lies in no folder of its own
    return [row._replace(folder=home) if sources(row.messages) else row for row in rows]


def piped_rows(text: str) -> list[PromptRow]:
    """The rows of a piped text: its JSON records if it has any, else the text as one prompt.

    JSON that has none of the fields of a record, or that follows a text, is part of the prompt.

    Raises:
      ValueError: it is a table, compressed, or a damaged array.
    """
    name, data = "standard input", text.encode(errors="surrogateescape")
    asked = text.strip("\ufeff\u200b\xa0 \t\r\n\x1e")
    items, damage = _items(name, data) if asked and "\0" not in text else (None, None)
    begun = asked.startswith(("{", "[", '"', "#", "//"))
    found = [item.value for item in items or () if begun and not item.fault]
    if not any(is_record(value) or _asks_canvas(value) for value in found):
        if found:
            tell(f"{name}: this JSON has none of the fields of a record, so it is asked as a text")
        return _warned(name, [from_text(text.removeprefix("\ufeff"))])
    if damage:
        raise damage
    return _from_items(name, items)


def _items(name: str, text: bytes) -> tuple[list[Item] | None, ValueError | None]:
    """The records of a file, or None if the file is a text; and what ends an array too early.

    Raises:
      ValueError: the file can be neither records nor a text.
    """
    stream, items = io.BytesIO(text), []
    try:
        kind = kind_of(stream)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if kind == "text":
        return None, None
    try:
        items.extend(scan(stream, kind))
        damage = None if items else "no prompts: the array is empty"
    except ValueError as error:
        damage = error
    return items, damage and ValueError(f"{name}: {damage}")


def _warned(name: str, rows: list[PromptRow]) -> list[PromptRow]:
    """The rows, after a warning if some of them hold turn tokens."""
    if count := sum(has_turn_tokens(row.messages) for row in rows):
        tell(rendered(name, count))
    return rows


def _from_items(name: str, items: list[Item]) -> list[PromptRow]:
    unused, answered = Counter[str](), 0
    rows = []
    for item in items:
        row, fields, has_answer = _from_record(item)
        unused.update(fields)
        answered += has_answer
        rows.append(row)
    if answered:
        count = f"{answered} record{'s' * (answered > 1)}"
        tell(f"{name}: the answers of {count} are left out: the model is asked for them")
    if line := not_used(name, unused):
        tell(line)
    return _warned(name, rows)


def _from_lines(text: bytes) -> list[PromptRow]:
    rows = []
    for number, line in enumerate(text.removeprefix(BOM).splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(from_text(line.decode(), number))
        except UnicodeDecodeError:
            rows.append(PromptRow(number, [], fault="not UTF-8", place=f"line {number}"))
    return rows


def _from_record(item: Item) -> tuple[PromptRow, tuple[str, ...], bool]:
    """(the row of a record, its fields that are not understood, whether it has an answer)."""
    row = PromptRow(item.number, [], fault=item.fault, place=item.place)
    if item.fault:
        return row, (), False
    try:
        value, pieces = _canvas(item.value)
        messages, tools, unused = parse_record(value)
        demand = from_record(item.value)
        answered = messages[-1]["role"] == "assistant"
        if answered and not (messages := messages[:-1]):
            raise ValueError("there is no prompt before the answer")
    except ValueError as error:
        return row._replace(fault=str(error)), (), False
    unused = tuple(name for name in unused if name not in FIELDS)
    row = row._replace(messages=messages, tools=tools, pieces=pieces, demand=demand)
    return row, unused, answered


def _asks_canvas(value: Any) -> bool:
    """Whether a record has a text to fill in or edit."""
    return isinstance(value, dict) and any(value.get(n) is not None for n in ("fill", "edit"))


def _canvas(value: Any) -> tuple[Any, Pieces | None]:
    """(a record without what it asks of the canvas, the pieces of what it asks)."""
    if not _asks_canvas(value):
        return value, None
    pieces = read_pieces(*map(value.get, ("fill", "edit", "spans")))
    rest = {n: v for n, v in value.items() if n not in ("fill", "edit", "spans") and v is not None}
    return rest if is_record(rest) else {"prompt": _instruction(pieces), **rest}, pieces


def _instruction(pieces: Pieces) -> str:
    return FILL_PROMPT if source(pieces) is None else EDIT_PROMPT
