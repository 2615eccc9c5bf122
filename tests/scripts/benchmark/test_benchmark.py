"""scripts.benchmark on a tiny model, beside a peer that only answers; scripts.check_kernels."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.backend import set_backend
from diffusiongemma.config import PRESETS
from scripts import check_kernels
from scripts.benchmark import __main__, peer, step_parts

# The lines of scripts/benchmark/peer_transformers.py, without torch: a step takes a second.
FAKE = """
import json, sys
import numpy as np
arrays = np.load(sys.argv[2])
assert arrays["logits"].shape == (2, 12, 64) and sys.argv[3] == "float32"
def say(**answer):
    print(json.dumps(answer), flush=True)
say(device="cpu", threads=1, torch="none", experts="none", tried={})
for line in sys.stdin:
    if line.split()[0] == "check":
        say(difference=0.0, largest=1.0)
    else:
        say(seconds=1.0)
"""


def test_a_benchmark(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peer, "SCRIPT", tmp_path / "fake.py")
    peer.SCRIPT.write_text(FAKE)
    shape = ModelConfig.preset("tiny", layer_types=("sliding", "full"))
    monkeypatch.setitem(PRESETS, "tiny", shape)
    # What the machine can do is not what is tested.
    monkeypatch.setattr(step_parts, "copy_bandwidth", lambda: 1e9)
    monkeypatch.setattr(step_parts, "matmul_rate", lambda dtype: 1e12)
    python = sys.executable
    flags = ["--preset=tiny", "--batch=2", "--context=8", "--steps=2", "--repeats=2"]
    flags += ["--peer=transformers", f"--peer_python={python}", f"--out={tmp_path / 'out'}"]
    assert __main__.main(["benchmark", *flags]) == 0
    found = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert set(found["parts_ms"]) == {"layers", "attention", "moe", "head + sampling"}
    assert found["floor_ms"] == pytest.approx(found["floor_gb"] * 1e3)
    step = found["step_ms"]["median"]
    assert found["ratio_to_floor"] == pytest.approx(step / found["floor_ms"])
    assert found["tokens_s"] == pytest.approx(2 * 19.74 / step * 1e3)
    row = found["peer"]["denoise"]
    assert row["ratio"] == pytest.approx(1000 / row["ours_ms"]["median"])
    assert (tmp_path / "out" / "benchmark.png").read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    assert "denoising step" in printed and "logits equal to 0.0e+00 of 1.0" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset=huge"], "no model preset 'huge'"),
        (["--peer=transformers"], "--peer needs --peer_python=PATH"),
        (["--peer=transformers", "--peer_python=p", "--quantize=int8"], "other weights"),
        (["--train"], "--train needs --peer"),
        (["--experts=1"], "from top_k, 2, up"),
    ],
)
def test_flags_that_do_not_fit(flags, message, capsys):
    assert __main__.main(["benchmark", *flags]) == 2
    assert message in capsys.readouterr().err


def test_what_a_step_must_read_and_compute():
    config = ModelConfig.preset("tiny", layer_types=("full",))
    model = step_parts.random_model(config, jnp.float32)
    # A router without an opinion takes the first two of the four experts.
    moe = model.layers[0].moe
    moe.router.proj.kernel[...] = jnp.zeros((32, 4))
    inputs = step_parts.make_inputs(model, 2, 8, 8)
    assert step_parts.touched_experts(inputs) == [2]
    experts = sum(x[...].nbytes for x in (moe.gate_up.kernel, moe.down.kernel))
    everything = step_parts.floor_bytes(inputs, None)
    held = jax.tree.leaves((inputs.state, inputs.cache.layers))
    assert everything == sum(x.nbytes for x in held)
    assert everything - step_parts.floor_bytes(inputs, [1]) == experts * 3 // 4
    # Another layer of 32 x 48 dense weights: three maps, two operations each, 12 tokens.
    wider = ModelConfig.preset("tiny", layer_types=("full",), mlp_dim=96)
    more = step_parts.floor_flops(wider, 2) - step_parts.floor_flops(config, 2)
    assert more == 2 * (2 * 12) * 2 * (3 * 32 * 48)  # of the layer and of the self-conditioner


def test_the_medium_preset_has_a_tenth_of_a_billion_weights():
    config = ModelConfig.preset("medium")
    state = nnx.state(nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0))))
    assert 0.09e9 < sum(x.size for x in jax.tree.leaves(state)) < 0.11e9


def test_random_models_are_of_the_usual_scale():
    config = ModelConfig.preset("tiny", layer_types=("full",))
    found = nnx.state(step_parts.random_model(config, jnp.float32))
    wanted = nnx.state(DiffusionGemma(config, rngs=nnx.Rngs(0)))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if a.ndim == 1:
            assert jnp.array_equal(a, b)
        else:
            assert 0.8 < a.std() / b.std() < 1.25


def test_checking_the_kernels_finds_one_that_is_off(monkeypatch, capsys):
    monkeypatch.setattr(check_kernels, "KINDS", ("int8",))
    monkeypatch.setattr(check_kernels, "LARGEST", {"float32": 1e-5})
    some = {"random": check_kernels.routes(24, 4, 2)["random"]}
    monkeypatch.setattr(check_kernels, "routes", lambda *_: some)
    flags = ["--interpret", "--width=128", "--hidden=64", "--num_experts=4", "--top_k=2"]
    flags += ["--tokens=24", "--context=40", "--vocab_size=256"]
    assert check_kernels.main(["check", *flags]) == 0
    assert "0 faults" in capsys.readouterr().out
    monkeypatch.setattr(check_kernels, "error", lambda found, wanted: float("nan"))
    monkeypatch.setattr(check_kernels, "attention_error", lambda *_: float("nan"))
    monkeypatch.setattr(check_kernels, "grouped_alike", lambda *_: False)
    assert check_kernels.main(["check", *flags]) == 1
    assert "10 faults" in capsys.readouterr().out  # experts, grouping, attention 4, head 4


def test_set_backend_reaches_every_layer():
    config = ModelConfig.preset("tiny")
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    set_backend(model, "pallas")
    for block in model.layers:
        assert block.moe.backend == block.attention.backend == "pallas"
