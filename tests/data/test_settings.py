"""Settings from mappings: names and types are checked, defaults and nested fields are kept."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from data.settings import SettingsError, build


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    name: str = "adam"

    def __post_init__(self):
        if self.rate > 1:
            raise ValueError(f"rate must be at most 1, not {self.rate}")


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int
    title: str
    inner: Inner = dataclasses.field(default_factory=Inner)
    flag: bool = False
    limit: int | None = None
    ends: tuple[int, ...] = (1, 2)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    kind: ClassVar[str] = "no setting"


GOOD = {"steps": 3, "title": "run"}


def test_defaults_are_kept_and_fields_are_set():
    assert build(Outer, GOOD) == Outer(3, "run")
    given = {
        **GOOD,
        "inner": {"rate": 0.25},
        "flag": True,
        "limit": 7,
        "ends": (4, 5),
        "extra": {"a": [1]},
    }
    assert build(Outer, given) == Outer(3, "run", Inner(0.25), True, 7, (4, 5), given["extra"])
    assert build(Outer, {**GOOD, "limit": None}).limit is None
    inner = Inner(0.75)
    assert build(Outer, {**GOOD, "inner": inner}).inner is inner


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"ends": [4, 5, 6]}, "ends", (4, 5, 6)),
        ({"inner": {"rate": 1}}, "inner.rate", 1.0),
        ({"title": 40}, "title", "40"),
        ({"inner": {"name": 8}}, "inner.name", "8"),
        ({"limit": 3}, "limit", 3),
    ],
)
def test_values_are_given_the_fields_type(fields, name, expected):
    found = build(Outer, GOOD | fields)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == expected and type(found) is type(expected)


def test_what_json_makes_of_settings_builds_them_again():
    settings = Outer(3, "run", Inner(1.0), True, 7, (4, 5), {"a": 1})
    assert build(Outer, json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (
            {"step": 3, "title": "a"},
            "no config field 'step': did you mean 'steps'? there are ends, extra, flag, inner, "
            "limit, steps, title",
        ),
        (GOOD | {"zzz": 1}, "no config field 'zzz': there are ends"),
        (GOOD | {"kind": "a"}, "no config field 'kind'"),
        (
            GOOD | {"inner": {"rat": 1}},
            "no config field 'inner.rat': did you mean 'inner.rate'? there are name, rate",
        ),
        ({"title": "a"}, "config field missing: steps"),
        ({}, "config field missing: steps, title"),
        (GOOD | {"steps": "3"}, "config steps: expected int, got '3'"),
        (GOOD | {"steps": 3.0}, "config steps: expected int, got 3.0"),
        (GOOD | {"steps": True}, "config steps: expected int, got True"),
        (GOOD | {"steps": None}, "config steps: expected int, got None"),
        (GOOD | {"title": 0.5}, "config title: expected str, got 0.5"),
        (GOOD | {"title": False}, "config title: expected str, got False"),
        (GOOD | {"flag": 1}, "config flag: expected bool, got 1"),
        (GOOD | {"limit": "7"}, "config limit: expected int, got '7'"),
        (GOOD | {"inner": {"rate": "fast"}}, "config inner.rate: expected float, got 'fast'"),
        (GOOD | {"inner": {"rate": True}}, "config inner.rate: expected float, got True"),
        (GOOD | {"inner": 3}, "config inner: expected fields, got 3"),
        (GOOD | {"inner": Outer(1, "a")}, "config inner: expected fields, got Outer("),
        (GOOD | {"inner": {"rate": 2}}, "config inner: rate must be at most 1, not 2.0"),
    ],
)
def test_bad_settings_are_named_in_one_line(fields, error):
    with pytest.raises(SettingsError, match=rf"^{re.escape(error)}") as caught:
        build(Outer, fields)
    assert "\n" not in str(caught.value)


def test_a_path_stands_before_names():
    with pytest.raises(SettingsError, match=r"no config field 'data\.rat': did you mean 'data\."):
        build(Inner, {"rat": 1}, "data.")
    with pytest.raises(SettingsError, match=r"^config data: rate must be"):
        build(Inner, {"rate": 2.0}, "data.")
    with pytest.raises(SettingsError, match=r"^config run: rate must be"):
        build(Inner, {"rate": 2.0})
