"""LoRA factors trained beside quantized weights."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig, load_checkpoint, save_checkpoint
from diffusiongemma.lora import add_lora
from diffusiongemma.ops.quantized import QuantizedParam
from diffusiongemma.quantized_model import quantize_model, quantized_precision
from tests.diffusiongemma.test_quantized_model import widened
from train.config import ConfigError, RunConfig
from train.loop import train
from train.loss import LossConfig
from train.step import has_lora, init_state, make_train_step

SHAPE = ModelConfig.preset("tiny", vocab_size=1024, layer_types=("full",))
BATCH = {
    "tokens": np.random.default_rng(0).integers(0, 64, (2, 32)).astype(np.int32),
    "prompt_len": np.array([10, 19], np.int32),
    "answer_len": np.full(2, 9, np.int32),
    "num_canvases": np.ones(2, np.int32),
}


def test_a_step_is_that_beside_the_dequantized_weights():
    optimizer, states = optax.sgd(0.1), []
    for change in (lambda model: model, widened):
        model = DiffusionGemma(SHAPE, rngs=nnx.Rngs(0))
        model = change(quantize_model(model, "int4"))
        model.remat = True
        add_lora(model, 2, 4.0, rngs=nnx.Rngs(1))
        graphdef, state, frozen = init_state(model, optimizer)
        kinds = {type(v) for _, v in nnx.to_flat_state(frozen)}
        assert kinds == {nnx.Param, QuantizedParam} if not states else {nnx.Param}
        assert {type(v) for _, v in nnx.to_flat_state(state.params)} == {nnx.LoRAParam}
        before = jax.device_get(state.params)
        step = make_train_step(graphdef, optimizer, LossConfig(canvas_size=12), 0)
        state, figures = step(state, frozen, BATCH)
        states.append((jax.device_get(state.params), {k: float(v) for k, v in figures.items()}))
    (found, figures), (wanted, expected) = states
    assert figures == pytest.approx(expected, rel=1e-4) and figures["grad_norm"] > 0.1
    moved = 0.0
    for a, b, old in zip(*map(jax.tree.leaves, (found, wanted, before)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        moved = max(moved, np.abs(a - old).max())
    assert moved > 1e-3


def test_a_run_on_a_quantized_checkpoint_ends_with_an_adapter(tmp_path):
    base, workdir = tmp_path / "base", tmp_path / "run"
    model = quantize_model(DiffusionGemma(SHAPE, rngs=nnx.Rngs(0)), "int4")
    save_checkpoint(model, base, format="orbax")
    fields = {
        "seed": 0,
        "steps": 2,
        "batch_size": 1,
        "preset": "",
        "init": str(base),
        "data": {"task": "sudoku", "prompt_length": 40, "box": 2, "clues": "6-8"},
        "loss": {"canvas_size": 24, "noise_draws": 1},
        "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 1},
        "eval": {"every": 0},
    }
    message = f"init: {base} is quantized, so its weights cannot be trained: train LoRA factors"
    with pytest.raises(ConfigError, match=message):
        train(RunConfig.from_dict(fields), workdir)
    assert not workdir.exists()
    config = RunConfig.from_dict(fields | {"lora": {"rank": 2}})
    assert train(config, workdir) == workdir / "adapter"
    assert not (workdir / "model").exists()
    for folder in (workdir, workdir / "adapter"):
        tuned = load_checkpoint(folder)
        assert quantized_precision(tuned) == "int4" and has_lora(tuned)
        same = (nnx.state(m, QuantizedParam) for m in (tuned, model))
        for a, b in zip(*map(jax.tree.leaves, same), strict=True):
            np.testing.assert_array_equal(a, b)
