"""Checks of the fields of a config.json. What is wrong is gathered, and then raised together."""

from collections.abc import Collection
from typing import Any

from diffusiongemma.formats.hf_config_fields import is_ignored
from files.fields import INT32, is_finite, shown

UNKNOWN = "unknown field"


def check_known(
    given: dict[str, Any],
    prefix: str,
    read: Collection[str],
    constants: dict[str, tuple],
    ignored: set[str],
    problems: list[str],
) -> None:
    """Adds to `problems` each given field that is unknown, or a constant of another value.

    A field that is null counts as absent.
    """
    for name, value in given.items():
        if name in constants:
            if value not in constants[name]:
                problems.append(f"{prefix}{name}: {shown(value)} is not supported")
        elif name not in read and value is not None and not is_ignored(name, ignored):
            problems.append(f"{prefix}{name}: {UNKNOWN}")


def refuse(problems: list[str]) -> None:
    """Raises ValueError if there are problems."""
    if problems:
        unknown = any(problem.endswith(UNKNOWN) for problem in problems)
        advice = " (delete an unknown field if the network is the same without it)"
        raise ValueError("; ".join(problems) + unknown * advice)


def number(value: Any, name: str, real: bool, problems: list[str], zero: bool = False) -> Any:
    """The value, as a float if `real`. Adds to `problems` unless it is a number above zero.

    Token ids may be zero, and other numbers if `zero` says so.
    """
    if value is None:
        problems.append(f"{name}: missing")
    elif isinstance(value, bool) or not isinstance(value, (int, float) if real else int):
        problems.append(f"{name}: expected a number, got {shown(value)}")
    elif not is_finite(value) or (not real and value not in INT32):
        problems.append(f"{name}: {shown(value)} is out of range")
        return None
    elif value < 0 or (value == 0 and not (zero or name.endswith("_token_id"))):
        problems.append(f"{name}: {value} is out of range")
    return float(value) if real and isinstance(value, int) else value
