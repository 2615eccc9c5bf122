"""Builds frozen dataclasses of settings from plain mappings. Names and types are checked."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from files.fields import field_hints, typed


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
    hints = field_hints(cls)
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
    """The value in the type that a field has, as files/fields.py says; fields of fields are built.

    Args:
      hint: the type of the field.
      value: the value that was given.
      name: the full name of the field, for the message.

    Raises:
      SettingsError: the value is of another type, out of range or not finite.
    """
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, f"{name}.")
    if hint in (str, str | None) and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a command line reads 40 as an int, although 40-50 is text
    try:
        return typed(hint, value, name)
    except ValueError as error:
        raise SettingsError(f"config {error}") from None
