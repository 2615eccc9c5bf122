"""Reads JSON that comes from anyone: texts here, files in json_file.py.

Python's own reader would keep the last of the values of a key that an object has twice, would take
NaN and 1e999 for numbers, and would run out of stack in brackets within each other, or leave that
to the code that goes through them.
"""

import collections
import json
import math
from typing import Any

DEEPEST = 100  # brackets within each other
TOO_DEEP = "its brackets are nested too deeply"


def json_decoder(twice: list[str], finite: bool = True) -> json.JSONDecoder:
    """A decoder that adds to a list each key that an object has twice.

    It raises ValueError for numbers that are none, if they must be finite. It raises RecursionError
    at its own limit of brackets; `check_depth` is for a lower one.
    """

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = collections.Counter(name for name, _ in pairs)
            twice.extend(name for name, count in counts.items() if count > 1)
        return found

    numbers = {"parse_float": _finite, "parse_constant": _refuse_constant} if finite else {}
    return json.JSONDecoder(object_pairs_hook=build, **numbers)


def read_json(text: str, finite: bool = True) -> Any:
    """The value that is all of a JSON text.

    Args:
      text: the text.
      finite: whether to refuse numbers that are none (NaN, Infinity) or infinite as a float64. Logs
        of our own runs may have such figures.

    Raises:
      ValueError: the text is not JSON, an object in it has a key twice, a number is refused, or
        more than DEEPEST brackets are within each other.
    """
    twice: list[str] = []
    try:
        value = json_decoder(twice, finite).decode(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if twice:
        raise ValueError(said_twice(twice))
    check_depth(value, text)
    return value


def check_depth(value: Any, text: str) -> None:
    """Raises ValueError if more than DEEPEST brackets of a value are within each other.

    Args:
      value: what a decoder made of the text.
      text: the text of the value, which may go on behind it.
    """
    if text.count("[") + text.count("{") <= DEEPEST:  # the usual case, and quick
        return
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [v for v in level if isinstance(v, dict | list)]
        if not level:
            return
        level = [v for inside in level for v in _values(inside)]
    raise ValueError(TOO_DEEP)


def why_not_json(error: Exception) -> str:
    """Why a text is no JSON, from what the decoder raised; without the place."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg.removesuffix(" at")
    if isinstance(error, RecursionError):
        return TOO_DEEP
    text = str(error)
    return "a number has too many digits" if text.startswith("Exceeds the limit") else text


def said_twice(twice: list[str]) -> str:
    """What is wrong with an object that has keys twice."""
    return f"an object has the key {twice[0]!r} twice"


def _values(inside: dict | list) -> Any:
    return inside.values() if isinstance(inside, dict) else inside


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
