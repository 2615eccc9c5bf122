"""A JSON schema as a regular expression: every text that matches is JSON that the schema accepts.

The library that compiles expressions (byte_automaton.py) can read schemas, too. But it passes over
keywords that it does not know, such as minimum, joins the parts of allOf, and escapes no names.
Here, what cannot be kept is refused. What is written is a part of what the schema accepts: objects
have their properties in the order of the schema and no others, and there is at most one space
between two parts.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from data.text.byte_automaton import LONGEST, NO_STATE, compile_regex

SHOWN = 400  # characters of a place or a fault in an error
SPACE = "[ ]?"
CHARACTER = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])'
INTEGER = "-?(?:0|[1-9][0-9]*)"
NUMBER = INTEGER + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?"
# Keywords that say nothing of what is accepted.
ASIDE = {
    *("$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "description"),
    *("default", "examples", "deprecated", "readOnly", "writeOnly"),
}
LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
KEYWORDS = {
    "string": {"minLength", "maxLength", "pattern"},
    "integer": set(LIMITS),
    "number": set(),
    "boolean": set(),
    "null": set(),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
_CLASSES = {"d": "[0-9]", "w": "[A-Za-z0-9_]", "s": "[ ]"}  # of patterns, as ASCII without controls


def schema_regex(schema: Any) -> str:
    """The expression for compile_regex.

    Args:
      schema: the schema as json.loads gives it.

    Raises:
      ValueError: the schema is invalid, recursive, or has a keyword that cannot be kept. The error
        names the place in one line.
    """
    if not isinstance(schema, dict):
        raise ValueError("a schema is a JSON object")
    try:
        return _Reader(schema).read(schema, "", ())
    except RecursionError:
        raise ValueError("the schema has too many parts within parts") from None


class _Reader:
    """Reads the parts of a schema. `place` is a part's place, such as ".properties.name"."""

    def __init__(self, root: dict[str, Any]):
        self._root = root
        self._known: dict[str, str] = {}  # $ref -> its expression

    def read(self, schema: Any, place: str, within: tuple[str, ...]) -> str:
        """The expression of a part; `within` has the $refs that led to it."""
        if not isinstance(schema, dict):
            raise _fault(place, f"expected an object with a type, not {json.dumps(schema)[:40]}")
        said = {name: value for name, value in schema.items() if name not in ASIDE}
        for alone, read in (("$ref", self._ref), ("anyOf", self._any_of)):
            if alone in said:
                if len(said) > 1:
                    raise _fault(place, f"{_other(said, alone)} beside {alone} cannot be kept")
                return read(said[alone], _inside(place, f".{alone}"), within)
        if "enum" in said or "const" in said:
            return self._values(said, place)
        types = said.pop("type", None)
        types = types if isinstance(types, list) and types else [types]
        if len(types) > len(KEYWORDS):
            raise _fault(place, "type: expected each type once")
        for name in types:
            if name is None:
                raise _fault(place, _advice(said) or "a type is needed (or enum, anyOf, $ref)")
            if not isinstance(name, str) or name not in KEYWORDS:
                raise _fault(place, f"there is no type {json.dumps(name)}")
        if unknown := sorted(said.keys() - set().union(*(KEYWORDS[name] for name in types))):
            raise _fault(place, _advice(said) or f"{unknown[0]} cannot be kept")
        ways = (getattr(self, f"_{name}")(said, place, within) for name in types)
        return _either(_that_fit(ways, place))

    def _ref(self, ref: Any, place: str, within: tuple[str, ...]) -> str:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise _fault(place, f"{json.dumps(ref)} is not in this schema (#/$defs/NAME)")
        if ref in within or ref == "#":
            raise _fault(place, f"{ref} leads to itself: a recursive schema cannot be kept")
        if ref in self._known:  # refs to refs could be more than anybody can wait for
            return self._known[ref]
        part = self._root
        for name in ref[2:].split("/"):
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(part, dict) or name not in part:
                raise _fault(place, f"there is no {ref}")
            part = part[name]
        self._known[ref] = self.read(part, place, (*within, ref))
        return self._known[ref]

    def _any_of(self, parts: Any, place: str, within: tuple[str, ...]) -> str:
        if not isinstance(parts, list) or not parts:
            raise _fault(place, "expected a list of schemas, at least one")
        ways = (self.read(p, _inside(place, f"[{i}]"), within) for i, p in enumerate(parts))
        return _either(_that_fit(ways, place))

    def _values(self, said: dict[str, Any], place: str) -> str:
        name = "enum" if "enum" in said else "const"
        if len(said) > 2 or said.keys() - {name, "type"}:
            raise _fault(place, f"{_other(said, name)} beside {name} cannot be kept")
        values = said["enum"] if name == "enum" else [said["const"]]
        if not isinstance(values, list) or not values:
            raise _fault(place, "enum: expected a list of values, at least one")
        types = said.get("type", list(KEYWORDS))
        types = types if isinstance(types, list) else [types]
        if len(types) > len(KEYWORDS):
            raise _fault(place, "type: expected each type once")
        for value in values:
            if not any(_has_type(value, kind) for kind in types):
                raise _fault(place, f"{name} has {json.dumps(value)[:40]}, which is no {types[0]}")
        return _either(_that_fit((_literal(value, place) for value in values), place))

    def _null(self, *_: Any) -> str:
        return "null"

    def _boolean(self, *_: Any) -> str:
        return "(?:true|false)"

    def _number(self, *_: Any) -> str:
        return NUMBER

    def _integer(self, said: dict[str, Any], place: str, _: tuple[str, ...]) -> str:
        low, high = None, None
        for name in LIMITS:
            if name not in said:
                continue
            limit = said[name]
            if not _has_type(limit, "integer"):
                raise _fault(place, f"{name}: expected an integer")
            limit = int(limit)
            if name in LIMITS[::2]:
                limit += name == "exclusiveMinimum"
                low = limit if low is None else max(low, limit)
            else:
                limit -= name == "exclusiveMaximum"
                high = limit if high is None else min(high, limit)
        if low is None and high is None:
            return INTEGER
        if low is not None and high is not None and low > high:
            raise _fault(place, f"no integer is from {low} to {high}")
        parts = []
        if low is None or low < 0:  # -n for n from -high to -low
            least = 1 if high is None or high >= 0 else -high
            most = None if low is None else -low
            parts.append(f"-(?:{_naturals(least, most)})")
        if high is None or high >= 0:
            parts.append(_naturals(max(low or 0, 0), high))
        return _either(parts)

    def _string(self, said: dict[str, Any], place: str, _: tuple[str, ...]) -> str:
        if "pattern" not in said:
            return f'"{CHARACTER}{_times(said, "minLength", "maxLength", place)}"'
        if len(said.keys() & KEYWORDS["string"]) > 1:
            raise _fault(place, "pattern beside minLength or maxLength cannot be kept")
        pattern = said["pattern"]
        if not isinstance(pattern, str):
            raise _fault(place, "pattern: expected text")
        pattern = pattern.removeprefix("^")
        pattern = re.sub(r"(?<!\\)((?:\\\\)*)\$\Z", r"\1", pattern)
        pattern = re.sub(r"\\(.)", lambda m: _CLASSES.get(m[1], m[0]), pattern, flags=re.DOTALL)
        try:
            automaton = compile_regex(pattern) if pattern else None
        except ValueError as error:
            raise _fault(place, f"pattern: {error}") from None
        if automaton is not None:
            breaking = [*range(0x20), *b'"\\']
            if (automaton.next[:, breaking] != NO_STATE).any():
                raise _fault(
                    place,
                    "pattern: a match may have a quote, a backslash or a control character, and so "
                    r'break the JSON: write [^"\\\x00-\x1f] instead of a dot',
                )
        return f'"(?:{pattern})"'

    def _array(self, said: dict[str, Any], place: str, within: tuple[str, ...]) -> str:
        if "items" not in said:
            raise _fault(place, "an array needs items")
        item = self.read(said["items"], _inside(place, ".items"), within)
        least, most = _counts(said, "minItems", "maxItems", place)
        if most == 0:
            return rf"\[{SPACE}\]"
        more = f"{{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
        items = f"{item}(?:{SPACE},{SPACE}{item}){more}{SPACE}"
        return rf"\[{SPACE}(?:{items}){'' if least else '?'}\]"

    def _object(self, said: dict[str, Any], place: str, within: tuple[str, ...]) -> str:
        properties, required = said.get("properties"), said.get("required", [])
        if not isinstance(properties, dict):
            raise _fault(place, "an object needs properties")
        if not isinstance(said.get("additionalProperties", False), bool):
            raise _fault(place, "additionalProperties cannot be kept, except for true and false")
        if not isinstance(required, list):
            raise _fault(place, "required: expected a list of names")
        for name in required:
            if not isinstance(name, str) or name not in properties:
                raise _fault(place, f"{json.dumps(name)} is required, but is no property")
        needed, pairs, size = set(required), [], 0
        for number, (name, part) in enumerate(properties.items(), 1):
            value = self.read(part, _inside(place, f".properties.{name}"), within)
            pair = f"{_literal(name, place)}{SPACE}:{SPACE}{value}"
            pairs.append((pair, name in needed))
            # If none is needed, each is written once for each that may be the first.
            size += len(pair) * (1 if needed else number)
            if size > LONGEST:
                raise _too_large(place)
        return rf"\{{{SPACE}{_joined(pairs)}\}}"


def _that_fit(parts: Iterable[str], place: str) -> list[str]:
    """The parts of an expression; raises ValueError once they have more than LONGEST characters."""
    found, size = [], 0
    for part in parts:
        found.append(part)
        size += len(part) + 1
        if size > LONGEST:
            raise _too_large(place)
    return found


def _joined(pairs: list[tuple[str, bool]]) -> str:
    """The pairs with commas between them; each is (expression, whether it must be there)."""
    comma = f"{SPACE},{SPACE}"
    first = next((i for i, (_, must) in enumerate(pairs) if must), None)

    def behind(begin: int) -> str:
        rest = pairs[begin:]
        return "".join(comma + p if must else f"(?:{comma}{p})?" for p, must in rest) + SPACE

    if first is not None:
        before = "".join(f"(?:{p}{comma})?" for p, _ in pairs[:first])
        return before + pairs[first][0] + behind(first + 1)
    # Without one that must be there, some pair is the first, or there is none.
    ways = [p + behind(i + 1) for i, (p, _) in enumerate(pairs)]
    return f"{_either(ways)}?" if ways else ""


def _either(parts: list[str]) -> str:
    return f"(?:{'|'.join(parts)})"


def _naturals(low: int, high: int | None) -> str:
    """The numbers from low >= 0 to high; None for no end."""
    if high is None:
        digits = len(str(low))
        return _either([_naturals(low, 10**digits - 1), f"[1-9][0-9]{{{digits},}}"])
    parts = []
    while low <= high:
        last = min(high, 10 ** len(str(low)) - 1)
        parts.append(_same_length(str(low), str(last)))
        low = last + 1
    return _either(parts)


def _same_length(low: str, high: str) -> str:
    """The numbers from low to high, which have the same number of digits."""
    rest = len(low) - 1
    if not low:
        return ""
    if low[0] == high[0]:
        return low[0] + _same_length(low[1:], high[1:])
    parts, first, last = [], int(low[0]), int(high[0])
    if low[1:].strip("0"):
        parts.append(low[0] + _same_length(low[1:], "9" * rest))
        first += 1
    if high[1:].strip("9"):
        parts.append(high[0] + _same_length("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}][0-9]{{{rest}}}")
    return _either(parts)


def _counts(said: dict[str, Any], low: str, high: str, place: str) -> tuple[int, int | None]:
    """The smallest and the largest number that two keywords demand; None for no end."""
    least, most = said.get(low, 0), said.get(high)
    for name, value in ((low, least), (high, most)):
        if value is not None and (not _has_type(value, "integer") or value < 0):
            raise _fault(place, f"{name}: expected a number of 0 or more")
    if most is not None and least > most:
        raise _fault(place, f"{low} is above {high}")
    return int(least), None if most is None else int(most)


def _times(said: dict[str, Any], low: str, high: str, place: str) -> str:
    least, most = _counts(said, low, high, place)
    return f"{{{least},{'' if most is None else most}}}"


def _literal(value: Any, place: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        raise _fault(place, f"{json.dumps(value)[:40]} cannot be written") from None
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text)


_TESTS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: _has_type(value, "number") and value == value // 1,
}


def _has_type(value: Any, name: Any) -> bool:
    return isinstance(name, str) and name in _TESTS and _TESTS[name](value)


def _other(said: dict[str, Any], name: str) -> str:
    return next(other for other in said if other not in (name, "type" if name == "enum" else name))


def _advice(said: dict[str, Any]) -> str | None:
    """What to do instead of a keyword that is often used and cannot be kept."""
    advice = {
        "oneOf": "write anyOf",
        "allOf": "write one schema with the keywords of all",
        "format": "write a pattern",
        "uniqueItems": "leave it out, or write an enum of arrays",
    }
    return next((f"{n} cannot be kept: {advice[n]}" for n in said if n in advice), None)


def _too_large(place: str) -> ValueError:
    return _fault(place, f"it is too large: written out, it has more than {LONGEST:,} characters")


def _inside(place: str, name: str) -> str:
    """The place of a part, of which only the end is kept if it is long."""
    whole = place + name[:SHOWN]
    return whole if len(whole) <= SHOWN else f"...{whole[-SHOWN:]}"


def _fault(place: str, what: str) -> ValueError:
    return ValueError(f"schema{place}: {what if len(what) <= SHOWN else what[:SHOWN] + '...'}")
