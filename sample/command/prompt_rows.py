"""Prompts from flags, files and pipes."""

from pathlib import Path
from typing import Any, NamedTuple

from data.text.chat import Message
from data.text.conversations import parse_object, parse_tools


class PromptRow(NamedTuple):
    """One prompt, or what is wrong with it.

    Attributes:
      number: the number of its line in a file, from 1; None if it is not from a file.
      messages: the conversation up to the prompt (data/text/chat.py).
      tools: declarations of tools, for the chat template.
      fault: what is wrong with the line; None if it can be asked.
    """

    number: int | None
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    fault: str | None = None


def from_text(text: str, number: int | None = None) -> PromptRow:
    """A row with one message of the user."""
    fault = None if text.strip() else "the prompt is empty"
    return PromptRow(number, [{"role": "user", "content": text}], fault=fault)


def read_rows(file: Path) -> list[PromptRow]:
    """Reads every line of a file: as JSON if its name ends in .jsonl, else as the text of a prompt.

    A JSON line is an object with either "prompt" (text) or "messages". It may have "tools"; other
    fields are ignored.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file has no lines.
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
            rows.append(PromptRow(number, [], fault="not UTF-8"))
    return rows


def _from_json(line: str, number: int) -> PromptRow:
    try:
        given = parse_object(line)
        tools = parse_tools(given)
        if ("prompt" in given) == ("messages" in given):
            raise ValueError("expected an object with either prompt or messages")
        if not isinstance(given.get("prompt", ""), str):
            raise ValueError("prompt: expected text")
    except ValueError as error:
        return PromptRow(number, [], fault=str(error))
    if "messages" in given:
        return PromptRow(number, given["messages"], tools)
    return from_text(given["prompt"], number)._replace(tools=tools)
