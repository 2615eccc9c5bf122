"""Any JSON object as a regular expression, up to a depth.

An automaton cannot count brackets, so each level has states of its own: an object of plain values
has 88 states; with lists and objects of plain values in it, 380; and with one level more, 1,548,
which take 20 seconds to compile instead of one. So objects have DEPTH levels below their own.
"""

import functools

from data.text.json_schema import CHARACTER, NUMBER, SPACE

DEPTH = 1
_STRING = f'"{CHARACTER}*"'
_PLAIN = f"{_STRING}|{NUMBER}|true|false|null"


@functools.cache
def any_object() -> str:
    """The expression for compile_regex. Spaces are as in json_schema.py."""
    value = f"(?:{_PLAIN})"
    for _ in range(DEPTH):
        value = f"(?:{_PLAIN}|{_listed('[', value, ']')}|{_listed('{', _pair(value), '}')})"
    return _listed("{", _pair(value), "}")


def _pair(value: str) -> str:
    return f"{_STRING}{SPACE}:{SPACE}{value}"


def _listed(begin: str, item: str, end: str) -> str:
    """Any number of items between brackets, with commas between them."""
    return rf"\{begin}{SPACE}(?:{item}(?:{SPACE},{SPACE}{item})*{SPACE})?\{end}"
