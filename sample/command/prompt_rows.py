"""What is asked of the model: from flags, files and pipes, row by row."""

from pathlib import Path
from typing import Any, NamedTuple

from data.text.chat import Message
from data.text.conversations import parse_object, parse_tools


class Row(NamedTuple):
    """One thing asked, or why it cannot be.

    Attributes:
      number: of its line in the file, from 1; None if it is not from a file.
      messages: as of data.chat.
      tools: declarations for the chat template.
      fault: what is wrong with the line; None if nothing is.
    """

    number: int | None
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    fault: str | None = None


def from_text(text: str, number: int | None = None) -> Row:
    """The row of a user's message."""
    fault = None if text.strip() else "the prompt is empty"
    return Row(number, [{"role": "user", "content": text}], fault=fault)


def read_rows(file: Path) -> list[Row]:
    """Every line of a file: JSON if its name ends in .jsonl, else each line is a prompt.

    A line of JSON is an object with "prompt" (text) or "messages" and perhaps "tools"; what else it
    holds is left alone.

    Raises:
      OSError: it cannot be read.
      ValueError: it has no lines.
    """
    lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{file}: no prompts")
    read = _from_json if file.suffix == ".jsonl" else from_text
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(read(line.removesuffix(b"\r").decode(), number))
        except UnicodeDecodeError:
            rows.append(Row(number, [], fault="not UTF-8"))
    return rows


def _from_json(line: str, number: int) -> Row:
    try:
        given = parse_object(line)
        tools = parse_tools(given)
        if ("prompt" in given) == ("messages" in given):
            raise ValueError("expected an object with either prompt or messages")
        if not isinstance(given.get("prompt", ""), str):
            raise ValueError("prompt: expected text")
    except ValueError as error:
        return Row(number, [], fault=str(error))
    if "messages" in given:
        return Row(number, given["messages"], tools)
    return from_text(given["prompt"], number)._replace(tools=tools)
