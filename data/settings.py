"""Builds frozen dataclasses of settings from plain mappings. Names and types are checked."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any


class SettingsError(ValueError):
    """A setting is unknown, missing, of another type or out of range. The message is one line."""


def build(cls: type, fields: Mapping[str, Any], path: str = "") -> Any:
    """Makes an instance of a dataclass from its fields.

    Args:
      cls: the dataclass. It may check itself: a ValueError in its __post_init__ becomes a
        SettingsError.
      fields: name -> value. The value of a field that is a dataclass is a mapping, too. A list
        becomes a tuple. An int becomes a float or a str, if that is the field's type.
      path: text before the name of a field in error messages, such as "optimizer.", or "--" if the
        fields are flags.

    Raises:
      SettingsError: a field is unknown, missing, of another type or out of range. The message names
        the first such field.
    """
    known = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    built = {}
    for name, value in fields.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{path}{close[0]}'? " if close else ""
            raise SettingsError(
                f"no config field '{path}{name}': {hint}there are {', '.join(sorted(known))}"
            )
        built[name] = _typed(hints[name], value, f"{path}{name}")
    missing = [
        f"{path}{field.name}"
        for field in known.values()
        if field.name not in built
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise SettingsError(f"config field missing: {', '.join(missing)}")
    try:
        return cls(**built)
    except SettingsError:
        raise
    except ValueError as error:
        place = f"config {path.rstrip('.') or 'run'}: " if path != "--" else ""  # fields are flags
        raise SettingsError(f"{place}{error}") from None


def _typed(hint: Any, value: Any, name: str) -> Any:
    """The value in the type that a field has.

    Args:
      hint: the type of the field.
      value: the value that was given.
      name: the full name of the field, for the message.

    Raises:
      SettingsError: the value is of another type.
    """
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise SettingsError(f"config {name}: expected fields, got {value!r}")
        return build(hint, value, f"{name}.")
    if isinstance(value, list):
        value = tuple(value)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if value is None or len(kinds) != 1:
            return value
        hint = kinds[0]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a command line reads 40 as an int, although 40-50 is text
    expected = {bool: bool, int: int, float: float, str: str}.get(hint)
    wrong = expected and not isinstance(value, expected)
    if wrong or (hint in (int, float) and isinstance(value, bool)):
        raise SettingsError(f"config {name}: expected {hint.__name__}, got {value!r}")
    return value
