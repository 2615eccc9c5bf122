"""Prompts from flags, files and pipes."""

import io
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from data.text.messages import Message
from data.text.record_file import BOM, Item, kind_of, scan
from data.text.records import not_used, parse_record


class PromptRow(NamedTuple):
    """One prompt, or what is wrong with it.

    Attributes:
      number: the number of its line in a file, or of its record in an array, from 1; None if it is
        not from a file.
      messages: the conversation up to the prompt (data/text/messages.py).
      tools: declarations of tools, for the chat template.
      fault: what is wrong with the row; None if it can be asked.
      place: its place in a file in words, such as "line 3".
    """

    number: int | None
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    fault: str | None = None
    place: str = ""


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
    stream = io.BytesIO(text)
    try:
        kind = kind_of(stream)
        if kind == "text":
            return _from_lines(text)
        items = list(scan(stream, kind))
        if not items:
            raise ValueError("no prompts: the array is empty")
        if all(item.fault for item in items):
            raise ValueError(
                f"it begins with {'[' if kind == 'array' else '{'}, so JSON records are expected, "
                f'but {items[0].place}: {items[0].fault}. Write a text as {{"prompt": "TEXT"}}'
            )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    unused, answered = Counter[str](), 0
    rows = []
    for item in items:
        row, fields, has_answer = _from_record(item)
        unused.update(fields)
        answered += has_answer
        rows.append(row)
    if answered:
        count = f"{answered} record{'s' * (answered > 1)}"
        _tell(f"{file}: the answers of {count} are left out: the model is asked for them")
    if line := not_used(file, unused):
        _tell(line)
    return rows


def _from_lines(text: bytes) -> list[PromptRow]:
    rows = []
    for number, line in enumerate(text.removeprefix(BOM).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(from_text(line.removesuffix(b"\r").decode(), number))
        except UnicodeDecodeError:
            rows.append(PromptRow(number, [], fault="not UTF-8", place=f"line {number}"))
    return rows


def _from_record(item: Item) -> tuple[PromptRow, tuple[str, ...], bool]:
    """(the row of a record, its fields that are not understood, whether it has an answer)."""
    row = PromptRow(item.number, [], fault=item.fault, place=item.place)
    if item.fault:
        return row, (), False
    try:
        messages, tools, unused = parse_record(item.value)
        answered = messages[-1]["role"] == "assistant"
        if answered and not (messages := messages[:-1]):
            raise ValueError("there is no prompt before the answer")
    except ValueError as error:
        return row._replace(fault=str(error)), (), False
    return row._replace(messages=messages, tools=tools), unused, answered


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
