"""Parses the tool calls of a model's turn.

The chat templates of Gemma 4 write a call as `call:NAME{key:value,...}`. A value is a text between
two `<|"|>` tokens, a number, true, false, null, an object `{key:value,...}` or a list
`[value,...]`. Nothing is escaped: a text may hold any character, and a key stands without quotes.
"""

import json
import math
import re
from typing import Any, NamedTuple

from files.json_text import why_not_json

QUOTE = '<|"|>'
_NAME = re.compile(r"\s*call:\s*([^\s{}]+)\s*")
_KEY = re.compile(r"[^:,{}\[\]]*")
_SINGLE = re.compile(r"'([^'\\\n]*)'(?=\s*[:,}\]])")
_BARE = re.compile(r"[^,{}\[\]]*")
# As in JSON: 007 is no number, so it stays what the model wrote.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
# Templates of Gemma 4 from before July 2026 write Python's None.
_WORDS = {"true": True, "false": False, "null": None, "None": None}


class ToolCall(NamedTuple):
    """A tool call of a model.

    Attributes:
      text: the call as the model wrote it, between <|tool_call> and <tool_call|>.
      function: {"name": text, "arguments": dict}; None if the text is not a call.
      problem: why the text is not a call; "" if it is one.
    """

    text: str
    function: dict[str, Any] | None = None
    problem: str = ""

    def record(self) -> dict[str, Any]:
        """The call for a JSON file.

        Returns:
          {"type": "function", "function": {"name", "arguments"}}, the form of an element of a
          message's "tool_calls". If the text is not a call: {"text", "problem"}.
        """
        if self.function is None:
            return {"text": self.text, "problem": self.problem}
        return {"type": "function", "function": self.function}


def parse_call(text: str, quote: str = QUOTE) -> ToolCall:
    """Parses the text between <|tool_call> and <tool_call|>.

    White space around keys and values is allowed. A text, also one that is a key, may be written
    as in JSON, or between single quotes.

    Args:
      text: the call.
      quote: what stands before and after a text.

    Returns:
      the call, parsed or with the reason why it cannot be. Its text has QUOTE for `quote`.
    """
    name, raw = _NAME.match(text), text.replace(quote, QUOTE)
    if not name:
        return ToolCall(raw, problem="it does not begin with call: and a name")
    try:
        reader = _Reader(text, name.end(), quote)
        arguments = reader.object()
        if text[reader.place :].strip():
            raise ValueError("text follows its arguments")
    except RecursionError:
        return ToolCall(raw, problem="its arguments are nested too deeply")
    except ValueError as error:
        return ToolCall(raw, problem=why_not_json(error))
    return ToolCall(raw, {"name": name[1], "arguments": arguments})


class _Reader:
    """Reads values from a text, from a place on. Raises ValueError where there is none."""

    def __init__(self, text: str, place: int, quote: str):
        self.text, self.place, self._quote = text, place, quote

    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._expect("{")
        while not self._skip("}"):
            if found:
                self._expect(",")
            key = self._text()
            if key is None:
                key = self._match(_KEY)[0].strip()
            self._expect(":")
            if key in found:
                raise ValueError(f"the key {key!r} is there twice")
            found[key] = self._value()
        return found

    def _list(self) -> list[Any]:
        found: list[Any] = []
        self._expect("[")
        while not self._skip("]"):
            if found:
                self._expect(",")
            found.append(self._value())
        return found

    def _value(self) -> Any:
        text = self._text()
        if text is not None:
            return text
        if self._at("{"):
            return self.object()
        if self._at("["):
            return self._list()
        word = self._match(_BARE)[0].strip()
        if word in _WORDS:
            return _WORDS[word]
        number = _NUMBER.fullmatch(word)
        value = None
        if number:
            value = float(word) if number[1] or number[2] else int(word)
        if value is None or math.isinf(value):
            raise ValueError(f"{word[:40]!r} is no value" if word else "a value is missing")
        return value

    def _text(self) -> str | None:
        """The text between quotes that comes next, if one does."""
        if self._at('"'):
            value, self.place = json.decoder.scanstring(self.text, self.place + 1)
            return value
        if single := _SINGLE.match(self.text, self.place):
            self.place = single.end()
            return single[1]
        if not self._at(self._quote):
            return None
        start = self.place + len(self._quote)
        end = self.text.find(self._quote, start)
        if end < 0:
            raise ValueError("a text has no end")
        self.place = end + len(self._quote)
        return self.text[start:end]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Reads what the pattern finds here; the pattern matches everywhere."""
        found = pattern.match(self.text, self.place)
        self.place = found.end()
        return found

    def _at(self, start: str) -> bool:
        """Whether these characters come next, after white space."""
        while self.text[self.place : self.place + 1].isspace():
            self.place += 1
        return self.text.startswith(start, self.place)

    def _skip(self, start: str) -> bool:
        there = self._at(start)
        self.place += len(start) * there
        return there

    def _expect(self, start: str) -> None:
        if not self._skip(start):
            found = self.text[self.place : self.place + 1]
            raise ValueError(
                f"expected {start} but found {found!r}" if found else f"it ends before a {start}"
            )
