"""The fields of dataclasses of settings: their types and ranges are checked here and nowhere else.

Settings come from config files, flags, configs of checkpoints and adapters. A value has the type
that its field is declared with. A number is finite. A whole number has 32 bits, as JAX's have,
unless the field is declared with a range of its own: `Annotated[int, range(0, 10)]`.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

INT32 = range(-(2**31), 2**31)
# A random seed. JAX takes larger ones for smaller ones without a word.
LARGEST_SEED = 2**32 - 1
Seed = Annotated[int, range(LARGEST_SEED + 1)]
LONGEST = 100  # characters of a wrong value that an error shows


def check_fields(settings: Any) -> None:
    """Checks the types and ranges of all fields of a dataclass; for its __post_init__.

    Args:
      settings: the dataclass. Its numbers may be NumPy's.

    Raises:
      ValueError: a field has a wrong value. The error is one line and names the first such field.
    """
    for name, hint in field_hints(type(settings)).items():
        typed(hint, getattr(settings, name), name)


def check_positive(settings: Any, sizes: Iterable[str], above: Iterable[str] = ()) -> None:
    """Checks ranges that many fields have.

    Args:
      settings: a dataclass with numbers.
      sizes: names of its fields that are at least 1.
      above: names of its fields that are above 0.

    Raises:
      ValueError: a field is out of range.
    """
    for names, least in ((sizes, "at least 1"), (above, "above 0")):
        for name in names:
            value = getattr(settings, name)
            if not (value >= 1 if names is sizes else value > 0):
                raise ValueError(f"{name} must be {least}, not {value}")


@functools.cache
def field_hints(cls: type) -> dict[str, Any]:
    """Name of each field of a dataclass -> its type, with its range if it has one of its own."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def typed(hint: Any, value: Any, name: str) -> Any:
    """The value in the type of a field: a list becomes a tuple, an int a float.

    Args:
      hint: the type: bool, int, float, str, a Literal, tuple[T, ...], a Mapping, a dataclass, one
        of these or None, or one of these with a range. Of another type, any value is taken.
      value: the value that was given.
      name: the full name of the field, for the message.

    Raises:
      ValueError: the value is of another type, out of range, or not finite.
    """
    allowed = INT32
    if typing.get_origin(hint) is Annotated:
        hint, allowed = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if value is None or len(kinds) != 1:
            return value
        return typed(kinds[0], value, name)
    if isinstance(value, list):
        value = tuple(value)
    if typing.get_origin(hint) is Literal:
        if not any(
            value == known and type(value) is type(known) for known in typing.get_args(hint)
        ):
            known = ", ".join(map(repr, typing.get_args(hint)))
            raise ValueError(f"{name}: expected one of {known}, got {shown(value)}")
        return value
    if typing.get_origin(hint) is tuple:
        return _tuple(typing.get_args(hint), value, name)
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name}: expected fields, got {shown(value)}")
        return value
    kind = {bool: bool, int: numbers.Integral, float: numbers.Real, str: str}.get(hint)
    if kind is None:
        if (
            isinstance(hint, type)
            and dataclasses.is_dataclass(hint)
            and not isinstance(value, hint)
        ):
            raise ValueError(f"{name}: expected fields, got {shown(value)}")
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{name}: expected {hint.__name__}, got {shown(value)}")
    if hint is int and int(value) not in allowed:
        ends = f"{allowed.start} to {allowed.stop - 1}"
        raise ValueError(f"{name}: expected a number from {ends}, got {shown(value)}")
    if hint is float:
        if not is_finite(value):
            raise ValueError(f"{name}: expected a finite number, got {shown(value)}")
        return float(value) if isinstance(value, int) else value
    return value


def is_finite(value: numbers.Real) -> bool:
    """Whether a number is finite as a float64."""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number with hundreds of digits
        return False


def shown(value: Any) -> str:
    """A wrong value as an error shows it: its beginning, if it is long."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"one of {value.bit_length()} bits"  # Python refuses to write it
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _tuple(kinds: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    """The value as a tuple of members of these types; `kinds` may be (T, Ellipsis)."""
    if not isinstance(value, tuple):
        raise ValueError(f"{name}: expected a list, got {shown(value)}")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{name}: expected {len(kinds)} values, got {shown(value)}")
    return tuple(
        typed(kind, x, f"{name}[{i}]") for i, (kind, x) in enumerate(zip(kinds, value, strict=True))
    )
