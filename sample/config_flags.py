"""Flags that are made from the fields of a dataclass, with their types and their docstrings."""

import inspect
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

from absl import flags


def define_fields(values: flags.FlagValues, cls: type, names: Iterable[str]) -> None:
    """Defines a flag for each of the named fields of a dataclass; none of them is set.

    The help text of a flag is what the section "Attributes" of the class' docstring says of the
    field. If the field may be None, the flag takes the word None.

    Args:
      values: gets the flags.
      cls: a dataclass. Fields may be of type bool, int, float, str, tuple[int, ...] or
        tuple[int, int], or one of these or None.
      names: fields of the class.

    Raises:
      TypeError: a field is of another type.
    """
    hints, helps = typing.get_type_hints(cls), _helps(cls)
    for name in names:
        kind = _without_none(hints[name])
        help = helps.get(name, f"Setting {name} of {cls.__name__}.")
        if (default := getattr(cls, name, None)) not in (None, ""):
            help += f" Default: {default}."
        if kind is bool:
            flags.DEFINE_bool(name, None, help, flag_values=values)
        elif kind in PARSERS:
            parser = PARSERS[kind]()
            if kind is not hints[name]:
                parser = _OrNone(parser)
            flags.DEFINE(parser, name, None, help, flag_values=values)
        else:
            raise TypeError(f"no kind of flag for {cls.__name__}.{name}: {hints[name]}")


def given_fields(values: flags.FlagValues, names: Iterable[str]) -> dict[str, Any]:
    """Field name -> value, for those of the named flags that are set."""
    return {
        name: values[name].value
        for name in names
        if values[name].present or values[name].value is not None
    }


class _Numbers(flags.ArgumentParser):
    """Parses "1,2" to a tuple of whole numbers."""

    syntactic_help = "a list of numbers separated by commas"

    def parse(self, argument: str | tuple[int, ...]) -> tuple[int, ...]:
        if isinstance(argument, tuple):
            return argument
        try:
            return tuple(int(part) for part in argument.split(",")) if argument.strip() else ()
        except ValueError:
            raise ValueError("expected numbers") from None

    def flag_type(self) -> str:
        return "numbers separated by commas"


class _Pair(_Numbers):
    """Parses "1,2" to a tuple of two whole numbers."""

    syntactic_help = "two numbers separated by a comma"

    def parse(self, argument: str | tuple[int, ...]) -> tuple[int, ...]:
        numbers = super().parse(argument)
        if len(numbers) != 2:
            raise ValueError("expected two numbers")
        return numbers


class _OrNone(flags.ArgumentParser):
    """Parses the word None to None, and anything else as another parser does."""

    def __init__(self, parser: flags.ArgumentParser):
        self._parser, self.syntactic_help = parser, parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        return None if argument == "None" else self._parser.parse(argument)

    def flag_type(self) -> str:
        return self._parser.flag_type()


PARSERS: dict[Any, type[flags.ArgumentParser]] = {
    int: flags.IntegerParser,
    float: flags.FloatParser,
    str: flags.ArgumentParser,
    tuple[int, ...]: _Numbers,
    tuple[int, int]: _Pair,
}


def _without_none(hint: Any) -> Any:
    """The type T of a hint T | None; other hints as they are."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        if len(kinds) == 1:
            return kinds[0]
    return hint


def _helps(cls: type) -> dict[str, str]:
    """What the section "Attributes" of a docstring says of each name, as whole sentences."""
    section = inspect.getdoc(cls).partition("Attributes:\n")[2].partition("\n\n")[0]
    helps = {}
    for entry in re.split(r"^  (?=\w)", section, flags=re.MULTILINE)[1:]:
        names, _, meaning = entry.partition(": ")
        helps |= dict.fromkeys(names.split(", "), _sentence(meaning))
    return helps


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:]
