"""Reads the fields of a record one by one. What is wrong with one is said in one line."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

LARGEST = 2**20  # largest number of steps, positions, columns and so on that a record may name


class Fields:
    """An object of a record, whose fields are read one by one.

    Args:
      value: what should be an object.
      place: where it stands.
      dot: what stands between the place and the name of a field.
    """

    def __init__(self, value: Any, place: str, dot: str = ": "):
        if not isinstance(value, dict):
            raise ValueError(f"{place}: expected an object, found {_kind(value)}")
        self.value, self._place, self._dot = value, place, dot

    def fail(self, name: str, fault: str) -> None:
        """Raises ValueError for a field."""
        raise ValueError(f"{self._place}{self._dot}{name}: {fault}")

    def _get(self, name: str) -> Any:
        if name not in self.value:
            raise ValueError(f"{self._place}{self._dot}{name} is missing")
        return self.value[name]

    def text(self, name: str) -> str:
        if not isinstance(found := self._get(name), str):
            self.fail(name, f"expected a text, found {_kind(found)}")
        return found

    def items(self, name: str) -> list[Any]:
        if not isinstance(found := self._get(name), list):
            self.fail(name, f"expected a list, found {_kind(found)}")
        return found

    def parts(self, name: str) -> list["Fields"]:
        """The objects of a list, which may be missing."""
        found = self.items(name) if name in self.value else []
        place = f"{self._place}{self._dot}{name}"
        return [Fields(value, f"{place}[{i}]", ".") for i, value in enumerate(found)]

    def number(self, name: str, least: int, most: int = LARGEST) -> int:
        found = self._get(name)
        if not is_number(found) or not least <= found <= most:
            self.fail(name, f"expected a whole number from {least} to {most}")
        return found

    def amount(self, name: str, optional: bool = False) -> float:
        found = self._get(name)
        if not (optional and found is None) and not is_amount(found):
            self.fail(name, "expected a number that is not negative")
        return found

    def column(self, name: str, read: Callable[[Any], np.ndarray]) -> Any:
        """What `read` makes of a field; its faults get the field's name."""
        found = self._get(name)
        try:
            return read(found)
        except KeyError as error:
            self.fail(name, f"{error.args[0]} is missing")
        except (ValueError, TypeError) as error:
            fault = "expected an object" if isinstance(error, TypeError) else str(error)
            self.fail(name, fault)


def is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_amount(value: Any) -> bool:
    return (is_number(value) or isinstance(value, float)) and 0 <= value < math.inf


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), "a number" if is_amount(value) else type(value).__name__)
