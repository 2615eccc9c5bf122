"""Plans of memory count the arrays that a run really holds: weights, optimizer and cache."""

import dataclasses
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from jax.experimental import topologies
from jax.sharding import AbstractDevice

from diffusiongemma import DiffusionGemma, Images, ModelConfig
from diffusiongemma.quantized_model import create_quantized
from diffusiongemma.sharding import MeshConfig
from scripts import plan as command
from tests.diffusiongemma.formats.folders import TOWER
from train import memory_plan
from train.config import RunConfig
from train.image_plan import plan_image
from train.memory_plan import (
    GB,
    GenerationSetup,
    MemoryPlan,
    TrainingSetup,
    plan_generation,
    plan_training,
)
from train.optimizer import make_optimizer
from train.step import init_state

TINY = ModelConfig.preset("tiny", layer_types=("full",))
REAL = ModelConfig.preset("26b_a4b")


def run(**fields) -> RunConfig:
    return RunConfig.from_dict(
        {
            "seed": 0,
            "steps": 10,
            "batch_size": 8,
            "preset": "tiny",
            "data": {"task": "base_mixture", "prompt_length": 20},
            "loss": {"canvas_size": 12, "noise_draws": 2},
            "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 2},
            **fields,
        }
    )


def size(tree) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_a_training_plan_counts_what_a_run_holds():
    config = run(ema=0.5)
    plan = plan_training(TrainingSetup(config, TINY), "cpu")
    model = DiffusionGemma(TINY, rngs=nnx.Rngs(0))
    _, state, frozen = init_state(model, make_optimizer(config.optimizer, 10), ema=True)
    held = {
        "trained weights": size(state.params),
        "gradients": size(state.params),
        "optimizer": size(state.opt_state),
        "running mean": size(state.ema),
    }
    assert plan.parts == {name: (n, n) for name, n in held.items()} and not jax.tree.leaves(frozen)
    assert plan.parameters == plan.trained == sum(x.size for x in jax.tree.leaves(state.params))
    # The largest activations are the logits of all noisy canvases and their gradients.
    logits = 4 * 16 * 12 * TINY.vocab_size
    assert 2 * logits < plan.activations < 100 * logits
    parted = dataclasses.replace(config, accumulate=4)
    less = plan_training(TrainingSetup(parted, TINY), "cpu")
    assert less.activations < 0.5 * plan.activations


def test_a_mesh_divides_the_plan():
    whole = plan_training(TrainingSetup(run(), TINY), None)
    split = plan_training(TrainingSetup(run(mesh={"fsdp": 2, "expert": 2}), TINY), None)
    total, held = split.parts["trained weights"]
    assert total == whole.parts["trained weights"][0] and total / 4 < held < total / 2
    assert split.parts["optimizer"][1] == pytest.approx(2 * held, rel=0.01)


def test_lora_counts_factors_alone():
    plan = plan_training(TrainingSetup(run(dtype="bfloat16", lora={"rank": 2}), TINY), None)
    factors = plan.parts["trained weights"][0]
    assert plan.trained * 4 == factors == plan.parts["gradients"][0]
    assert plan.parts["optimizer"][0] == pytest.approx(2 * factors, abs=16)
    assert plan.parts["frozen weights"][0] == 2 * (plan.parameters - plan.trained)


@pytest.fixture(scope="module")
def real() -> MemoryPlan:
    """The plan for the 26B with its longest context. Tracing its 30 layers takes seconds."""
    return plan_generation(GenerationSetup(REAL, context=262_144), None)


def test_the_26b_by_its_shapes(real):
    assert real.parts["weights"][0] / GB == pytest.approx(51.65, abs=0.01)
    assert 5 < real.parts["KV cache"][0] / GB < 6
    assert "does not fit a device of 50 GB" in real.table(50)
    assert "It fits a device of 80 GB" in real.table(80)
    eight = plan_generation(GenerationSetup(REAL, MeshConfig(expert=8)), None)
    # An eighth of the 45.4 GB of experts, and all other weights, of which the tower has 1.15.
    assert eight.parts["weights"][1] / GB == pytest.approx(11.67, abs=0.01)


def test_a_vision_tower_is_counted_and_not_trained():
    tower = dataclasses.replace(TINY, vision=TOWER)
    for fields in ({}, {"lora": {"rank": 2}}):
        without, plan = (
            plan_training(TrainingSetup(run(**fields), s), None) for s in (TINY, tower)
        )
        frozen = [p.parts.get("frozen weights", (0, 0))[0] for p in (without, plan)]
        assert frozen[1] - frozen[0] == 4 * (plan.parameters - without.parameters) > 0
        assert plan.trained == without.trained
        assert {**plan.parts, "frozen weights": 0} == {**without.parts, "frozen weights": 0}
    with pytest.raises(ValueError, match="fsdp 4 does not divide the vision tower's width 6"):
        plan_generation(GenerationSetup(tower, MeshConfig(fsdp=4), context=64), None)


def test_a_plan_of_an_image_counts_what_xla_counts():
    vision = dataclasses.replace(TOWER, width=16, mlp_dim=32, clipped=False)
    shape = dataclasses.replace(TINY, vision=vision)
    plan = plan_image(shape, 9, "float32", None)
    model = DiffusionGemma(shape, rngs=nnx.Rngs(0))
    assert (plan.patches, plan.pixels) == (36, 4 * 36 * 3)
    assert plan.weights == size(nnx.state(model.vision))
    y, x = divmod(np.arange(36, dtype=np.int32), 6)
    images = Images(np.zeros((1, 36, 3), np.float32), np.stack([x, y], -1)[None])
    program = jax.jit(lambda m, images: m.vision(images)).lower(model, images).compile()
    assert plan.tower_flop == pytest.approx(program.cost_analysis()["flops"], rel=0.25)
    assert plan.cache == size(model.init_cache(1, 9).layers)
    assert "One image of 9 soft tokens, 36 patches" in plan.table()
    with pytest.raises(ValueError, match="no vision tower"):
        plan_image(TINY, 9, "float32", None)


def test_quantized_weights_are_counted_as_they_are(real):
    plan = plan_generation(GenerationSetup(REAL, quantize="int4"), None)
    assert plan.parts["quantized weights"][0] / GB == pytest.approx(14.54, abs=0.01)
    assert plan.parts["weights"][0] < 1.25 * GB and "It fits a device of 17 GB" in plan.table(17)
    assert plan.parameters == real.parameters
    beside = plan_training(TrainingSetup(run(lora={"rank": 2}), TINY, "int8"), None)
    assert set(beside.parts) >= {"quantized weights", "frozen weights", "trained weights"}
    model = nnx.state(create_quantized(TINY, 0, "int8"))
    assert size(model) == beside.parts["quantized weights"][0] + beside.parts["frozen weights"][0]
    alone = plan_training(TrainingSetup(run(lora={"rank": 2}), TINY), None)
    assert (beside.parameters, beside.trained) == (alone.parameters, alone.trained)
    with pytest.raises(ValueError, match="only LoRA factors can be trained: give lora"):
        plan_training(TrainingSetup(run(), TINY, "int8"), None)


# ml_collections imports config files in a deprecated way.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_the_command(capsys, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the suite has set its devices
    assert command.main(["plan", "--preset=tiny", "--context=64", "--gpu=1"]) == 0
    assert "It fits a device of 1 GB" in capsys.readouterr().out
    lora = ["plan", "--config=configs/sudoku_26b_lora.py", "--preset=tiny", "--target=none"]
    assert command.main(lora) == 0
    assert "frozen weights" in capsys.readouterr().out
    # The config file does not name this field.
    seeing = ["--checkpoint=tests/golden/hf_seeing", "--config.images.per_row=1"]
    short = ["--config.data.prompt_length=64", "--config.loss.canvas_size=16"]
    assert command.main(["plan", lora[1], *seeing, *short, "--target=none"]) == 0
    assert "frozen weights" in capsys.readouterr().out
    assert command.main(["plan", "--preset=tiny", "--target=none", "--quantize=int4"]) == 0
    assert "quantized weights" in capsys.readouterr().out
    for flags, message in [
        (["--preset=big"], "no model preset 'big'"),
        (["--checkpoint=nowhere"], "nowhere: no such folder"),
        (["--fsdp=3", "--preset=tiny"], "mesh.fsdp 3 does not divide the width 32"),
    ]:
        assert command.main(["plan", "--target=none", *flags]) == 2
        assert message in capsys.readouterr().err


def test_an_image_and_a_mesh_are_planned_in_a_process_of_their_own():
    """There JAX has not started yet, and the plan of the image must not start it too early."""
    flags = re.sub(r"\S*device_count=\d+", "", os.environ["XLA_FLAGS"])
    asked = ("--checkpoint=tests/golden/hf_seeing", "--image_tokens=4", "--fsdp=2", "--context=64")
    found = subprocess.run(
        [sys.executable, "-m", "scripts.plan", *asked],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "fsdp 2" in found.stdout and "One image of 4 soft tokens" in found.stdout


def test_a_plan_for_gpus_needs_their_compiler(monkeypatch):
    def missing(**options):
        raise NotImplementedError  # JAX does so without the plugin

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    plugin = f"pip install jax-cuda12-plugin=={jax.__version__} "
    with pytest.raises(ValueError, match=plugin):
        plan_generation(GenerationSetup(TINY, context=64), "h100")


def test_a_plan_for_gpus_compiles_their_kernels(monkeypatch):
    """The program for GPUs is traced on CPU devices, and is not compiled."""
    seen = {}

    def compiled(target, program, *args):
        device = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
        mesh = jax.sharding.get_abstract_mesh().update(abstract_device=device)
        with jax.sharding.use_abstract_mesh(mesh):
            seen[target] = str(program.trace(*args).jaxpr)
        return 5

    monkeypatch.setattr(memory_plan, "devices", lambda target, num: jax.devices()[:num])
    monkeypatch.setattr(memory_plan, "temporaries", compiled)
    shape = dataclasses.replace(TINY, width=64, expert_dim=64)
    plan = plan_generation(GenerationSetup(shape, context=64), "h100")
    assert plan.activations == 5 and "at most" not in plan.table(None)
    assert "pallas_call" in seen["h100"] and "bf16" in seen["h100"]
