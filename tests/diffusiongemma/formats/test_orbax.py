"""This project's own checkpoints, and those of runs."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from diffusiongemma.formats.load_save import (
    convert_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from diffusiongemma.lora import add_lora, merge_lora
from tests.diffusiongemma.formats.folders import (
    assert_same,
    assert_same_tensors,
    refusal,
    save_run,
    weights,
)


def test_own_checkpoint_is_one_that_orbax_restores(two, tmp_path):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "own", format="orbax")
    handler = ocp.CompositeCheckpointHandler()
    args = ocp.args.Composite(
        params=ocp.args.StandardRestore(nnx.state(model, nnx.Param)), model=ocp.args.JsonRestore()
    )
    with ocp.Checkpointer(handler) as checkpointer:
        restored = checkpointer.restore(tmp_path / "own", args=args)
    assert restored["model"]["dtype"] == "bfloat16"
    assert restored["model"]["config"]["width"] == 24
    nnx.update(model, restored["params"])
    assert_same(model, load_checkpoint(two))


def test_a_runs_workdir_is_its_latest_step_and_converts(two, tmp_path):
    model = load_checkpoint(two)
    save_run(tmp_path / "run", model, nnx.Param, {"rank": 0})
    assert_same(load_checkpoint(tmp_path / "run"), model)
    assert_same(load_checkpoint(tmp_path / "run" / "checkpoints" / "10"), model)
    convert_checkpoint(tmp_path / "run", tmp_path / "out", "hf")
    assert_same_tensors(two, tmp_path / "out")
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    assert refusal(tmp_path / "empty").endswith("has not saved a checkpoint yet")


def test_a_lora_run_loads_with_its_factors_and_converts_merged(two, tmp_path):
    model = load_checkpoint(two)
    lora = {"rank": 2, "alpha": 4.0, "pattern": r"attention\.q$|gate_up"}
    add_lora(model, 2, 4.0, rngs=nnx.Rngs(1), pattern=lora["pattern"])
    for path, value in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam)):
        value[...] = jnp.full(value.shape, 0.125 * (1 + len(path)))
    save_run(tmp_path / "run", model, nnx.LoRAParam, lora, init=str(two))
    loaded = load_checkpoint(tmp_path / "run")
    assert_same(loaded, model)
    assert loaded.layers[0].attention.q.lora_a.dtype == jnp.float32
    merge_lora(model)
    convert_checkpoint(tmp_path / "run", tmp_path / "out", "orbax")
    assert_same(load_checkpoint(tmp_path / "out"), model)
    name = "layers.0.attention.q.kernel"
    assert np.any(weights(model)[name] != weights(load_checkpoint(two))[name])


@pytest.mark.parametrize("content", ["{", "{}", '{"config": {"width": 3}, "dtype": "float32"}'])
def test_damaged_description_is_refused(two, tmp_path, content):
    convert_checkpoint(two, tmp_path / "own", "orbax")
    (tmp_path / "own" / "model" / "metadata").write_text(content)
    assert str(Path("own", "model", "metadata")) in refusal(tmp_path / "own")
