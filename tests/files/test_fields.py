"""Fields of dataclasses: their types, and numbers that are none."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest

from files.fields import Seed, check_fields, check_positive, typed


@dataclasses.dataclass(frozen=True)
class Settings:
    seed: Seed = 0
    count: int = 1
    rate: float = 0.5
    name: str = ""
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    ids: tuple[int, ...] | None = None
    pair: tuple[int, int] = (1, 2)
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)


def test_good_fields_are_taken():
    Settings()
    Settings(2**32 - 1, np.int64(3), np.float32(2), "x", True, "b", (np.int32(1), 2), (0, 0), {})
    Settings(rate=1)
    assert typed(float, 1, "x") == 1.0 and type(typed(float, 1, "x")) is float
    assert typed(tuple[int, ...] | None, [1, 2], "x") == (1, 2)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"rate": float("nan")}, "rate: expected a finite number, got nan"),
        ({"rate": np.float32("inf")}, "rate: expected a finite number, got "),
        ({"rate": 10**400}, "rate: expected a finite number, got one of 1329 bits"),
        ({"rate": "1"}, "rate: expected float, got '1'"),
        ({"count": 1.0}, "count: expected int, got 1.0"),
        ({"count": True}, "count: expected int, got True"),
        ({"count": 2**31}, "count: expected a number from -2147483648 to 2147483647, got 21474"),
        ({"count": 10**5000}, "count: expected a number from .* got one of 16610 bits"),
        ({"seed": 2**32}, "seed: expected a number from 0 to 4294967295, got 4294967296"),
        ({"seed": -1}, "seed: expected a number from 0 to 4294967295, got -1"),
        ({"seed": "0"}, "seed: expected int, got '0'"),
        ({"name": 3}, "name: expected str, got 3"),
        ({"name": None}, "name: expected str, got None"),
        ({"flag": 1}, "flag: expected bool, got 1"),
        ({"kind": "c"}, "kind: expected one of 'a', 'b', got 'c'"),
        ({"kind": []}, r"kind: expected one of 'a', 'b', got \(\)"),
        ({"ids": (1, -(2**40))}, r"ids\[1\]: expected a number from"),
        ({"ids": ("1",)}, r"ids\[0\]: expected int, got '1'"),
        ({"ids": 3}, "ids: expected a list, got 3"),
        ({"pair": (1,)}, r"pair: expected 2 values, got \(1,\)"),
        ({"more": 3}, "more: expected fields, got 3"),
        ({"name": ["x"] * 1000}, r"name: expected str, got \('x', .* \.\.\.$"),
    ],
)
def test_wrong_fields_are_named_in_one_line(fields, error):
    with pytest.raises(ValueError, match=f"^{error}") as caught:
        Settings(**fields)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_ranges_of_many_fields():
    check_positive(Settings(), ["count"], ["rate"])
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        check_positive(Settings(count=0), ["count"])
    with pytest.raises(ValueError, match=r"rate must be above 0, not -0\.5"):
        check_positive(Settings(rate=-0.5), ["count"], ["rate"])
