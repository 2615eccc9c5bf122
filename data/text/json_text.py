"""Reads JSON. An object that has a key twice is an error, because one of its values would be lost.

Python's own reader would keep the last of the values without a word.
"""

import json
from typing import Any


def json_decoder(twice: list[str]) -> json.JSONDecoder:
    """A decoder that adds to a list each key that an object has twice."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice.extend(name for name in found if names.count(name) > 1)
        return found

    return json.JSONDecoder(object_pairs_hook=build)


def read_json(text: str) -> Any:
    """The value that is all of a JSON text.

    Raises:
      ValueError: the text is not JSON, or an object in it has a key twice.
      RecursionError: the text has too many brackets within each other.
    """
    twice: list[str] = []
    value = json_decoder(twice).decode(text)
    if twice:
        raise ValueError(said_twice(twice))
    return value


def why_not_json(error: Exception) -> str:
    """Why a text is no JSON, from what the decoder raised; without the place."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg.removesuffix(" at")
    if isinstance(error, RecursionError):
        return "its brackets are nested too deeply"
    text = str(error)
    return "a number has too many digits" if text.startswith("Exceeds the limit") else text


def said_twice(twice: list[str]) -> str:
    """What is wrong with an object that has keys twice."""
    return f"an object has the key {twice[0]!r} twice"
