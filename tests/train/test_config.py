"""Run configs: unknown, missing and bad fields; the optimizer's schedule."""

import json

import jax.numpy as jnp
import pytest

from configs import base, sudoku, sudoku_quick
from train.config import ConfigError, RunConfig, differences
from train.optimizer import OptimizerConfig, learning_rate, make_optimizer


@pytest.mark.parametrize("module", [base, sudoku, sudoku_quick])
def test_every_config_is_a_run(module):
    config = RunConfig.from_dict(module.get_config().to_dict())
    assert json.loads(config.to_json())["steps"] == config.steps


def test_bad_fields_are_named():
    good = base.get_config().to_dict()
    for change, message in [
        ({"stepz": 3}, "no config field 'stepz'"),
        ({"data": good["data"] | {"clue": 1}}, "no config field 'data.clue'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"init": "somewhere"}, "preset .* and init"),
        ({"dtype": "float8"}, "dtype"),
        ({"sampler": {"max_steps": 0}}, "config sampler: max_steps"),
    ]:
        with pytest.raises(ConfigError, match=message) as error:
            RunConfig.from_dict(good | change)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="missing: seed"):
        RunConfig.from_dict({k: v for k, v in good.items() if k != "seed"})


def test_differences_name_nested_fields():
    good = base.get_config().to_dict()
    other = good | {"optimizer": good["optimizer"] | {"peak_lr": 1.0}}
    old, new = (RunConfig.from_dict(fields).to_json() for fields in (good, other))
    assert differences(old, old) == []
    assert differences(old, new) == [f"optimizer.peak_lr: {good['optimizer']['peak_lr']} -> 1.0"]


def test_schedules():
    config = OptimizerConfig("adam", peak_lr=1.0, end_lr=0.1, warmup=10, schedule="hold")
    rate = learning_rate(config, 100)
    assert [round(float(rate(s)), 6) for s in (0, 5, 10, 70, 85, 100)] == [0, 0.5, 1, 1, 0.55, 0.1]
    config = OptimizerConfig("adam", peak_lr=1.0, end_lr=0.1, warmup=10)
    rate = learning_rate(config, 110)
    assert [round(float(rate(s)), 6) for s in (0, 10, 60, 110)] == [0, 1, 0.55, 0.1]


def test_weight_decay_spares_vectors_and_names_are_checked():
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    zeros = {"kernel": jnp.zeros((2, 2)), "scale": jnp.zeros(2)}
    for name in ("adam", "adafactor"):
        config = OptimizerConfig(name, 0.5, 0.5, 0, schedule="hold", weight_decay=0.1)
        optimizer = make_optimizer(config, 10)
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        assert float(updates["scale"].max()) == 0 and float(updates["kernel"].max()) < 0
    with pytest.raises(ValueError, match="'sgd'"):
        make_optimizer(OptimizerConfig("sgd", 1, 1, 1), 10)
    with pytest.raises(ValueError, match="'flat'"):
        make_optimizer(OptimizerConfig("adam", 1, 1, 1, schedule="flat"), 10)
