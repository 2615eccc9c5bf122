"""Runs that are loaded, that are refused, and that a bad loss stops.

Runs that are killed and started again are trials of scripts/torture.py.
"""

import re
import shutil
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma import ModelConfig, load_checkpoint
from diffusiongemma.lora import merge_lora
from diffusiongemma.parameters import in_tower
from sample.checkpoint import Checkpoint
from tests.diffusiongemma.formats.folders import add_tower, make_adapter, write_random
from tests.train.runs import environment_for, finish, start
from train.checkpointer import Checkpointer
from train.config import ConfigError, RunConfig
from train.loop import build_model, describe, export, train
from train.optimizer import make_optimizer
from train.step import init_state

STEPS = 24
CONFIG = f"""
from configs import base

def get_config():
    config = base.get_config()
    config.preset = "tiny"
    config.overrides = dict(vocab_size=1024, layer_types=("full",))
    config.steps, config.batch_size, config.loss.noise_draws = {STEPS}, 2, 2
    config.log_every, config.checkpoint_every, config.eval.every = 2, 4, 0
    return config
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    return environment_for(tmp_path_factory.mktemp("environment"), CONFIG)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, environment) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    status, line = finish(start(workdir, environment))
    assert status == 0, line
    return workdir


def test_a_runs_folder_loads_as_its_last_checkpoint(undisturbed, environment, tmp_path):
    def weights(path: Path) -> dict[str, np.ndarray]:
        model = load_checkpoint(path)
        merge_lora(model)
        state = nnx.to_flat_state(nnx.state(model, nnx.Param))
        return {".".join(map(str, name)): np.asarray(param[...]) for name, param in state}

    exported = weights(undisturbed / "model")
    for name, tensor in weights(undisturbed).items():
        np.testing.assert_array_equal(tensor, exported[name], err_msg=name)

    # The same for LoRA, whose checkpoints hold the factors only; and it trains nothing else.
    base = Path(shutil.copytree(undisturbed / "model", tmp_path / "base"))
    (base / "README.md").touch()
    (base / "LICENSE").touch()
    tower = add_tower(base)
    flags = [f"--config.init={base}", "--config.preset=", "--config.lora.rank=2"]
    flags += ["--config.steps=4", r"--config.lora.pattern=attention\.[qk]$"]
    workdir = tmp_path / "lora"
    status, line = finish(start(workdir, environment, *flags))
    assert status == 0, line
    tuned, adapter = weights(workdir / "model"), weights(workdir / "adapter")
    for name, tensor in weights(workdir).items():
        np.testing.assert_array_equal(tensor, tuned[name], err_msg=name)
        np.testing.assert_array_equal(tensor, adapter[name], err_msg=name)
        if in_tower(name):
            continue
        trained = ".attention.q." in name or ".attention.k." in name
        assert np.any(tensor != exported[name]) == trained, name
        if trained:
            assert np.linalg.matrix_rank(tensor - exported[name], tol=1e-6) <= 2
    found = load_file(workdir / "model" / "model.safetensors")
    for name, tensor in tower.items():  # the base's, though the run does not train it
        np.testing.assert_array_equal(found[name], tensor.astype(np.float32))
    assert (workdir / "model" / "LICENSE").exists()
    assert not (workdir / "model" / "README.md").exists()  # it describes the base

    # A run cannot go on on another base.
    tensors = load_file(base / "model.safetensors")
    tensors["model.decoder.norm.weight"] *= 2
    save_file(tensors, base / "model.safetensors")
    status, line = finish(start(workdir, environment, *flags))
    assert status == 2
    assert re.fullmatch(rf"error: .* trained on another base than {base}: name .*", line), line


def test_a_run_trains_the_factors_of_its_adapter(tmp_path):
    """Here one pair for each mode. They cannot be merged, so the run ends with an adapter."""
    shape = ModelConfig.preset("tiny", vocab_size=1024, layer_types=("full",))
    write_random(tmp_path / "base", shape)
    adapter = make_adapter(tmp_path / "adapter", shape, "../base")
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in tensors:
        tensors[name] += "encoder" in name
    save_file(tensors, adapter / "adapter_model.safetensors")
    fields = {
        "seed": 0,
        "steps": 1,
        "batch_size": 1,
        "preset": "",
        "init": str(adapter),
        "data": {"task": "sudoku", "prompt_length": 40, "box": 2, "clues": "6-8"},
        "loss": {"canvas_size": 24, "noise_draws": 1},
        "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 0},
        "eval": {"every": 0},
    }
    said = "of rank 2 and alpha 3, which the run trains, and config.lora asks for others"
    with pytest.raises(ConfigError, match=said):
        train(RunConfig.from_dict(fields | {"lora": {"rank": 3}}), tmp_path / "run")
    config = RunConfig.from_dict(fields | {"lora": {"rank": 2, "alpha": 3.0}})
    start, mesh, workdir = Checkpoint.open(adapter), config.mesh.make(), tmp_path / "run"
    model = build_model(config, start, mesh)
    description = describe(config, model.config, start)
    graphdef, state, frozen = init_state(model, make_optimizer(config.optimizer, 1), mesh)
    state = state._replace(params=jax.tree.map(lambda x: 2 * x, state.params))
    with closing(Checkpointer(workdir, 1, description)) as checkpointer:
        checkpointer.save(state, {})
    model = nnx.merge(graphdef, state.params, frozen)
    assert export(config, workdir, start, model) == workdir / "adapter"
    assert not (workdir / "model").exists()
    before, *after = (
        nnx.to_flat_state(nnx.state(load_checkpoint(folder), nnx.LoRAParam))
        for folder in (adapter, workdir, workdir / "adapter")
    )
    assert len(before) == 2 + 3 * 4
    for found in after:
        for (path, old), (_, new) in zip(before, found, strict=True):
            np.testing.assert_array_equal(2 * old[...], new[...], err_msg=str(path))


def test_another_config_and_a_foreign_folder_are_refused(undisturbed, environment, tmp_path):
    before = sorted(p.name for p in undisturbed.iterdir())
    (tmp_path / "letter.txt").write_text("mine")
    processes = [
        start(undisturbed, environment, "--config.optimizer.peak_lr=0.5"),
        start(tmp_path, environment),
        start(tmp_path / "new", environment, "--config.stepz=3"),
        start(tmp_path / "new", environment, "--config.steps.most=3"),
        start(tmp_path / "new", environment, "--config.data.prompt_length=20"),
    ]
    for process, message in zip(
        processes,
        [
            "error: .* belongs to another config .optimizer.peak_lr: 0.002 -> 0.5",
            "error: .* is not empty and is not the folder of a run",
            "error: no config field 'stepz': did you mean 'steps'?",
            "error: no such config field: .*steps.most",
            "error: .*20",
        ],
        strict=True,
    ):
        status, line = finish(process)
        assert status == 2
        assert re.search(message, line), line
    assert sorted(p.name for p in undisturbed.iterdir()) == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["letter.txt"]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(environment, tmp_path):
    workdir = tmp_path / "diverges"
    flags = ["--config.optimizer.peak_lr=1e38", "--config.optimizer.warmup=7"]
    status, line = finish(start(workdir, environment, *flags))
    assert status == 2 and line.startswith("error: the loss of step ")
    assert not (workdir / "model").exists()
    kept = sorted(p.name for p in (workdir / "checkpoints").iterdir())
    assert all(int(step) < int(line.split()[5]) for step in kept)
