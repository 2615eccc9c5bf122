"""Configs of runs: the published recipes, wrong fields, and workdirs with older configs."""

import json

import pytest

from configs import (
    base,
    base_gpu,
    chat_26b_lora,
    graphs,
    needle,
    needle_4k,
    needle_16k,
    peptides,
    read_grid,
    read_grid_tower,
    read_sudoku,
    read_sudoku_tower,
    sudoku,
    sudoku_26b_full,
    sudoku_26b_lora,
    sudoku_fill,
    sudoku_gpu,
    sudoku_quick,
)
from data.tasks.needle import NeedleTask
from sample.step import SamplerConfig
from train.config import ConfigError, DataConfig, RunConfig, differences

# Config -> batch size, steps, warm-up, peak and last learning rate, optimizer (docs/MODEL.md,
# Losses). LoRA of rank 8 has two recipes: the report's, and that of Google's config.
RECIPES = {
    sudoku_26b_lora: (2, 8000, 400, 3e-4, 3e-5, "adam"),
    sudoku_26b_full: (8, 2000, 100, 1.125e-4, 1.125e-5, "adafactor"),
    chat_26b_lora: (2, 2000, 100, 1.5e-4, 1.5e-5, "adam"),
}

SMALL = (
    *(base, base_gpu, sudoku, sudoku_fill, sudoku_gpu, sudoku_quick, graphs, peptides),
    *(needle, needle_4k, needle_16k, read_grid, read_grid_tower, read_sudoku, read_sudoku_tower),
)


@pytest.mark.parametrize("module", SMALL)
def test_every_config_is_a_run(module):
    config = RunConfig.from_dict(module.get_config().to_dict())
    assert json.loads(config.to_json())["steps"] == config.steps


def run_of(module) -> RunConfig:
    return RunConfig.from_dict(module.get_config().to_dict() | {"init": "DIR"})


@pytest.mark.parametrize("module", RECIPES)
def test_the_26b_configs_are_the_published_recipes(module):
    config = run_of(module)
    optimizer = config.optimizer
    recipe = (config.batch_size, config.steps, optimizer.warmup)
    recipe += (optimizer.peak_lr, optimizer.end_lr, optimizer.name)
    assert recipe == RECIPES[module]
    assert (optimizer.schedule, optimizer.clip_norm) == ("cosine", 1.0)
    assert (optimizer.b1, optimizer.b2, optimizer.weight_decay) == (0.95, 0.99, 1e-4)
    full = module is sudoku_26b_full
    # The base of LoRA factors is frozen in bfloat16. The factors are on every linear map, and with
    # alpha = rank they have no scale.
    assert config.dtype == ("float32" if full else "bfloat16")
    assert (config.lora.rank, config.lora.pattern) == (0 if full else 8, ".*")
    assert full or config.lora.alpha == config.lora.rank
    assert config.mesh.fsdp == config.mesh.size == (8 if full else 1)
    assert config.remat and config.ema == 0 and config.accumulate == 1
    chat = module is chat_26b_lora
    assert (config.data.name, config.data.prompt_length) == (
        ("conversations", 1024) if chat else ("sudoku", 256)
    )
    assert (config.loss.canvas_size, config.loss.num_canvases) == (256, 4 if chat else 1)
    assert (config.loss.noise_draws, config.loss.self_conditioning) == (1, 0.5)
    assert (config.loss.passes, config.loss.pass_temperature) == (1, 1.0)
    assert config.sampler == SamplerConfig()
    assert (config.loss.encoder_weight, config.loss.encoder_targets) == (
        1.0,
        "answer" if chat else "all",
    )


@pytest.mark.parametrize("module", RECIPES)
def test_the_26b_configs_ask_for_their_checkpoint(module):
    with pytest.raises(
        ConfigError, match=r"init .a checkpoint folder., such as --config.init=DIR$"
    ):
        RunConfig.from_dict(module.get_config().to_dict())


def test_bad_fields_are_named():
    good = base.get_config().to_dict()
    for change, message in [
        ({"stepz": 3}, "no config field 'stepz'"),
        ({"data": good["data"] | {"clue": 1}}, "no config field 'data.clue'"),
        ({"data": {"prompt_length": 9}}, "config field missing: data.task"),
        ({"data": good["data"] | {"task": "x"}}, "data.task: no task 'x': take one of sudoku"),
        ({"data": good["data"] | {"prompt_length": 0}}, "data.prompt_length must be at least 1"),
        ({"data": good["data"] | {"task": "sudoku", "box": 4}}, "config data: box 4: take 3"),
        ({"data": good["data"] | {"task": "needle", "dense": 1}}, "data.dense: expected bool"),
        ({"steps": "3"}, "config steps: expected int, got '3'"),
        ({"steps": True}, "config steps: expected int, got True"),
        ({"loss": good["loss"] | {"pases": 3}}, "did you mean 'loss.passes'"),
        ({"loss": 3}, "config loss: expected fields, got 3"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"eval": {"every": 5, "num": 0}}, r"eval\.num must be at least 1, not 0"),
        ({"eval": {"every": -1}}, r"eval\.every must be 0 or more, not -1"),
        ({"loss": good["loss"] | {"canvas_size": 0}}, r"loss\.canvas_size must be at least 1"),
        ({"loss": good["loss"] | {"self_conditioning": 1.5}}, "self_conditioning must be from 0"),
        (
            {"optimizer": good["optimizer"] | {"name": "sgd"}},
            "optimizer.name: expected one of 'adam', ",
        ),
        (
            {"optimizer": good["optimizer"] | {"schedule": "x"}},
            "optimizer.schedule: expected one of",
        ),
        ({"init": "somewhere"}, "preset .* and init .*, not both"),
        ({"preset": ""}, "such as --config.init=DIR"),
        ({"dtype": "float8"}, "dtype"),
        ({"sampler": {"max_steps": 0}}, "config sampler: max_steps"),
        (
            {"steps": 100, "optimizer": good["optimizer"] | {"schedule": "cosine"}},
            "warmup 100 leaves nothing of a run of 100 steps",
        ),
    ]:
        with pytest.raises(ConfigError, match=message) as error:
            RunConfig.from_dict(good | change)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="missing: seed"):
        RunConfig.from_dict({k: v for k, v in good.items() if k != "seed"})


def test_the_settings_of_another_task_are_left_out():
    """A command line may name another task than the config file does."""
    fields = sudoku.get_config().to_dict()
    fields["data"]["task"] = "needle"
    assert DataConfig.unused(fields["data"]) == ["clues"]
    assert RunConfig.from_dict(fields).data.task == NeedleTask()


# The fields of config.data before there were tasks, and the same settings as they are named now.
OLD_DATA = [
    (
        {"kind": "tasks", "prompt_length": 116, "box": 3, "clues": [40, 50], "path": ""},
        {"task": "base_mixture", "prompt_length": 116},
    ),
    (
        {"kind": "sudoku", "prompt_length": 104, "box": 3, "clues": [38, 50], "shortest": 32},
        {"task": "sudoku", "prompt_length": 104, "clues": "38-50"},
    ),
    (
        {"kind": "sudoku", "prompt_length": 36, "box": 2, "clues": [4, 8]},
        {"task": "sudoku", "prompt_length": 36, "box": 2, "clues": "4-8"},
    ),
    (
        {"kind": "csv", "prompt_length": 256, "clues": [38, 50], "path": "a.csv"},
        {"task": "sudoku", "prompt_length": 256, "path": "a.csv"},
    ),
    (
        {"kind": "needle", "prompt_length": 512, "shortest": 40, "dense": True},
        {"task": "needle", "prompt_length": 512, "longest": 512, "shortest": 40, "dense": True},
    ),
    (
        {"kind": "chat", "prompt_length": 1024, "path": "a.jsonl"},
        {"task": "conversations", "prompt_length": 1024, "path": "a.jsonl"},
    ),
]


@pytest.mark.parametrize(("old", "now"), OLD_DATA)
def test_a_run_of_before_tasks_goes_on(old, now):
    good = base.get_config().to_dict()
    told = json.dumps(good | {"data": old})
    assert differences(told, RunConfig.from_dict(good | {"data": now}).to_json()) == []
    other = RunConfig.from_dict(good | {"data": now | {"prompt_length": 9}}).to_json()
    assert f"data.prompt_length: {old['prompt_length']} -> 9" in differences(told, other)
    with pytest.raises(ConfigError, match=r"data\.kind 'grids' is none of tasks"):
        RunConfig.from_dict(good | {"data": old | {"kind": "grids"}})


def test_differences_name_nested_fields():
    good = base.get_config().to_dict()
    other = good | {"optimizer": good["optimizer"] | {"peak_lr": 1.0}}
    old, new = (RunConfig.from_dict(fields).to_json() for fields in (good, other))
    assert differences(old, old) == []
    assert differences(old, new) == [f"optimizer.peak_lr: {good['optimizer']['peak_lr']} -> 1.0"]


def test_a_field_that_is_younger_than_a_run_was_at_its_default():
    fields = base.get_config().to_dict()
    old = json.loads(RunConfig.from_dict(fields).to_json())
    del old["loss"]["encoder_targets"], old["ema"]
    now = RunConfig.from_dict(fields).to_json()
    assert differences(json.dumps(old), now) == []
    fields["loss"]["encoder_targets"] = "answer"
    other = RunConfig.from_dict(fields).to_json()
    assert differences(json.dumps(old), other) == ["loss.encoder_targets: all -> answer"]
    # A field that is no more.
    assert differences(json.dumps(old | {"odd": 1}), now)[-1] == "odd: 1 -> None"
