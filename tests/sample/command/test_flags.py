import dataclasses

import pytest

from sample import AutoregressiveConfig, SamplerConfig
from sample.command.flags import AUTOREGRESSIVE, SAMPLER, check_flags, define_flags
from sample.config_flags import given_fields

VALUES = {
    "max_steps": 7,
    "entropy_bound": 0.5,
    "stop_threshold": 0.25,
    "min_temperature": 0.5,
    "max_temperature": 1.5,
    "early_stop": False,
    "max_new_tokens": 9,
    "canvas_size": 3,
    "stop_ids": (4, 5),
    "trajectory": True,
    "candidates": 4,
    "prefill_chunk": 2,
    "restart_every": 6,
    "starts": 3,
    "temperature": 0.75,
    "top_k": 6,
    "top_p": 0.125,
}


@pytest.mark.parametrize("cls", [SamplerConfig, AutoregressiveConfig])
def test_every_field_has_its_flag(cls):
    names = [f.name for f in dataclasses.fields(cls)]
    expected = cls(**{name: VALUES[name] for name in names})
    assert all(VALUES[f.name] != f.default for f in dataclasses.fields(cls))
    values = define_flags()
    texts = {n: ",".join(map(str, v)) if isinstance(v, tuple) else v for n, v in VALUES.items()}
    values(["main", *(f"--{name}={text}" for name, text in texts.items())])
    assert cls(**given_fields(values, names)) == expected
    for name in names:
        assert len(values[name].help) > 5


@pytest.mark.parametrize("stop, told", [(r"\n", 1), (r"a\t", 1), (r"\nabla", 0), ("\n", 0)])
def test_an_escape_that_bash_leaves_as_it_is_gets_a_warning(stop, told, capsys):
    values = define_flags()
    values(["main", "--checkpoint=a", f"--stop={stop}"])
    check_flags(values)
    assert capsys.readouterr().err.count("in bash, --stop=$'") == told
    assert values.stop == [stop]


def test_flags_that_are_not_given_leave_the_defaults():
    values = define_flags()
    values(["main"])
    assert given_fields(values, {*SAMPLER, *AUTOREGRESSIVE}) == {}
    values(["main", "--stop_ids="])
    assert given_fields(values, SAMPLER) == {"stop_ids": ()}
