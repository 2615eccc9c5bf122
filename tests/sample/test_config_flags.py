"""Flags from a dataclass of every kind of field."""

import dataclasses

import pytest
from absl import flags

from sample.config_flags import define_fields, given_fields


@dataclasses.dataclass
class Settings:
    """Some settings.

    Attributes:
      name: what it is called.
      size, room: two
        numbers. See (x, y).
      ids: numbers, maybe none.
      loud: say it
        aloud.
      steps: how many.
      rate: how fast.
      other: has no flag.

    Raises:
      ValueError: never.
    """

    name: str = "a"
    size: tuple[int, int] = (1, 2)
    room: tuple[int, int] | None = None
    ids: tuple[int, ...] | None = None
    loud: bool = True
    steps: int | None = None
    rate: float = 0.5
    other: dict = dataclasses.field(default_factory=dict)


NAMES = ("name", "size", "room", "ids", "loud", "steps", "rate")


def parsed(*arguments: str) -> flags.FlagValues:
    values = flags.FlagValues()
    define_fields(values, Settings, NAMES)
    values(["main", *arguments])
    return values


def test_values_have_the_fields_types():
    given = ["--name=b,c", "--size=3,4", "--room=5,6", "--ids=7", "--noloud", "--steps=8"]
    assert given_fields(parsed(*given, "--rate=9"), NAMES) == {
        "name": "b,c",
        "size": (3, 4),
        "room": (5, 6),
        "ids": (7,),
        "loud": False,
        "steps": 8,
        "rate": 9.0,
    }
    assert given_fields(parsed("--ids=", "--name="), NAMES) == {"ids": (), "name": ""}
    assert given_fields(parsed("--steps=1", "--loud"), ["loud"]) == {"loud": True}
    assert given_fields(parsed(), NAMES) == {}
    assert given_fields(parsed("--steps=None", "--room=None", "--name=None"), NAMES) == {
        "steps": None,
        "room": None,
        "name": "None",
    }


def test_helps_are_the_docstrings():
    values = parsed()
    for name, meaning in (
        ("name", "What it is called."),
        ("size", "Two numbers. See (x, y)."),
        ("room", "Two numbers. See (x, y)."),
        ("loud", "Say it aloud."),
        ("rate", "How fast."),
    ):
        default = getattr(Settings, name)
        told = "" if default in (None, "") else f" Default: {default}."
        assert values[name].help == meaning + told


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--size=3", "--size=3: expected two numbers"),
        ("--size=3,4,5", "--size=3,4,5: expected two numbers"),
        ("--size=3,x", "--size=3,x: expected numbers"),
        ("--room=", "--room=: expected two numbers"),
        ("--ids=1,", "--ids=1,: expected numbers"),
        ("--steps=1.5", "--steps=1.5"),
        ("--rate=fast", "--rate=fast"),
    ],
)
def test_bad_values(argument, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        parsed(argument)


def test_a_field_of_another_type_is_an_error():
    with pytest.raises(TypeError, match=r"no kind of flag for Settings\.other"):
        define_fields(flags.FlagValues(), Settings, ["other"])
