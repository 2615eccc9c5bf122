"""scripts.benchmark on a tiny model, beside a peer that only answers; and flags that do not fit."""

import json
import sys

import pytest

from diffusiongemma import ModelConfig
from diffusiongemma.config import PRESETS
from scripts.benchmark import __main__, floor, peer

# Answers as scripts/benchmark/peer_transformers.py does, without torch: a step takes a second.
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
    # This test is not about the machine.
    monkeypatch.setattr(floor, "copy_bandwidth", lambda: 1e9)
    monkeypatch.setattr(floor, "matmul_rate", lambda dtype: 1e12)
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
