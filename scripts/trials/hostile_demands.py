"""Expressions, schemas and given texts that want to do harm, and a word of what refuses each.

A case begins with a copy of a tiny checkpoint. Anyone may add a row.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.trials.bad_input import BadInput, nothing, written

MOST_SECONDS = 20  # of processor time, imports and the limit of an expression among them
ASK = ("sample.main", "--checkpoint={folder}", "--prompt=Hi", "--max-steps=1")
TIME_OR_MEMORY, LARGE = "it (takes too much time|needs too much memory)", "too large"
NULL = {"type": "null"}
SLOW = "[ab]*a[ab]{24}"


def _nested(depth: int, around: Callable[[Any], Any]) -> Any:
    found: Any = NULL
    for _ in range(depth):
        found = around(found)
    return found


def _refs(count: int, around: Callable[[Any], Any]) -> dict[str, Any]:
    """A schema of definitions, each of which has the next one, at least once."""
    names = {f"n{i}": around({"$ref": f"#/$defs/n{i + 1}"}) for i in range(count)}
    return {"$ref": "#/$defs/n0", "$defs": names | {f"n{count}": NULL}}


def _expressions() -> Iterator[BadInput]:
    for name, expression, word in (
        ("2**24 states", SLOW, TIME_OR_MEMORY),
        ("all of Unicode, 900 times", r"\w{900}", TIME_OR_MEMORY),
        ("a repeated repetition", "a{1000}{1000}", LARGE),
        ("repetitions of repetitions", "((a{1000}){1000}){1000}", LARGE),
        ("a repetition of ten billion", "a{9999999999}", LARGE),
        ("30,000 open brackets", "[" * 30_000, "unterminated character set"),
        ("20,000 open classes", "[[:a" * 20_000, "unterminated character set"),
        ("20,000 parentheses", "(" * 20_000 + "a" + ")" * 20_000, "nested|regular expression"),
        ("parentheses without partners", "(" * 50_000, "has no partner"),
        ("60,000 letters", "a" * 60_000, LARGE),
        ("what never matches", "[^\\x00-\\x{10FFFF}]", "regular expression"),
        ("look-behind", "(?<=(a+)+)b", "look-around"),
        ("a back-reference", r"(a+)\1+", "back-references"),
        ("escapes", "\x1b[2J(", "unterminated"),
    ):
        asked = (*ASK, f"--regex={expression}")
        yield BadInput(f"regex: {name}", nothing, asked, word)


def _schemas() -> Iterator[BadInput]:
    arrays = _nested(60, lambda part: {"type": "array", "items": part})
    for name, schema, word in (
        ("arrays 60 deep", lambda: arrays, LARGE),
        ("objects of two, 40 deep", lambda: _refs(40, _pair), LARGE),
        ("a choice of two, 40 deep", lambda: _refs(40, lambda x: {"anyOf": [x, x]}), LARGE),
        ("a choice 300 deep", lambda: _nested(300, lambda x: {"anyOf": [x]}), "deep|parts"),
        ("a ref to itself", lambda: {"$ref": "#"}, "leads to itself"),
        ("refs in a circle", lambda: _circle(), "leads to itself"),
        ("a ref elsewhere", lambda: {"$ref": "file:///etc/passwd"}, "is not in this schema"),
        ("a ref to the network", lambda: {"$ref": "http://127.0.0.1:1/a"}, "is not in this schema"),
        ("40,000 properties", lambda: _object(40_000), LARGE),
        ("an enum of 160,000", lambda: {"enum": list(range(160_000))}, LARGE),
        ("an enum of a megabyte", lambda: {"enum": ["a" * 2_000_000]}, LARGE),
        ("100,000 types", lambda: {"type": ["null"] * 100_000}, "each type once"),
        ("a million items", lambda: _items(10**6), LARGE),
        ("10**300 items", lambda: _items(10**300), LARGE),
        ("a string of 10**9", lambda: {"type": "string", "maxLength": 10**9}, LARGE),
        ("a slow pattern", lambda: {"type": "string", "pattern": SLOW}, TIME_OR_MEMORY),
        ("a name of 1 MB", lambda: _long_name(), "anyOf|schema"),
        ("escapes", lambda: {"type": "\x1b[2J\u202e"}, "there is no type"),
        ("a list", lambda: [], "a schema is a JSON object"),
    ):

        def prepare(folder: Path, schema: Callable[[], Any] = schema) -> None:
            written("s.json", json.dumps(schema()))(folder)

        yield BadInput(f"schema: {name}", prepare, (*ASK, "--schema={folder}/s.json"), word)


def _given() -> Iterator[BadInput]:
    for name, flags, word in (
        ("a hole of a million tokens", ("--fill=<fill:999999>",), "context"),
        ("a hole of 10**9 tokens", ("--fill=<fill:1000000000>",), "at most 999,999"),
        ("a range of a million lengths", ("--fill=<fill:1-999999>",), "context"),
        ("1,000 holes", (f"--fill={'a<fill:99>' * 1000}",), "context"),
        ("a hole of less than nothing", ("--fill=<fill:-3>",), "give its number"),
        ("a text beyond the context", (f"--fill={'word ' * 5000}<fill:2>",), "context|tokens"),
        ("a text beyond the answer", ("--fill=abc<fill:9>", "--max-new-tokens=4"), "more than"),
        ("a special token", ("--fill=<eos><fill:2>",), "a special token"),
        ("slow spans", (f"--edit={'a' * 40}", "--spans=(a+)+b"), "too much time"),
        ("lines that are not there", ("--edit=a", "--spans=5-9999999999"), "there is no line"),
        ("a hole that cannot obey", ("--fill=b<fill:2>", "--regex=a+"), "do not go together"),
        ("an answer too short to obey", ("--regex=a{100}", "--max-new-tokens=3"), "token"),
    ):
        yield BadInput(f"given: {name}", nothing, (*ASK, *flags), word)


def _pair(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part, "b": part}, "required": ["a", "b"]}


def _circle() -> dict[str, Any]:
    return {"$ref": "#/$defs/a", "$defs": {"a": _pair({"$ref": "#/$defs/a"})}}


def _items(least: int) -> dict[str, Any]:
    return {"type": "array", "items": NULL, "minItems": least}


def _object(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": NULL for i in range(count)}}


def _long_name() -> dict[str, Any]:
    """Each of many faults would have the name in its place."""
    ways = {"anyOf": [NULL] * 20_000 + [{"type": "x"}]}
    return {"type": "object", "properties": {"x" * 1_000_000: ways}}


HOSTILE_DEMANDS: tuple[BadInput, ...] = (*_expressions(), *_schemas(), *_given())
