"""The table of precisions of a tiny model: fewer bits take less memory and change the logits."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from sample.checkpoint import Checkpoint
from scripts import quantization_quality


def test_figures_of_logits():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(2, 3, 8))
    found = wanted.copy()
    found[0, 0] += 1.0  # the same probabilities
    found[1, 2] = -found[1, 2]
    figures = quantization_quality.compare(
        jnp.asarray(found, jnp.float32), jnp.asarray(wanted, jnp.float32)
    )
    error = np.sqrt(np.sum((found - wanted) ** 2) / np.sum(wanted**2))
    p, q = (np.exp(x[1, 2]) / np.exp(x[1, 2]).sum() for x in (wanted, found))
    np.testing.assert_allclose(figures["error"], error, rtol=1e-5)
    np.testing.assert_allclose(figures["kl"], np.sum(p * np.log(p / q)) / 6, rtol=1e-5)
    np.testing.assert_allclose(figures["same"], 5 / 6, rtol=1e-5)


def test_the_command(tmp_path, capsys, monkeypatch):
    config = ModelConfig.preset(
        "tiny", vocab_size=1024, canvas_size=24, layer_types=("full",), stop_ids=(1, 106, 50)
    )
    save_checkpoint(DiffusionGemma(config, rngs=nnx.Rngs(0)), tmp_path)
    monkeypatch.setattr(quantization_quality, "PRECISIONS", ("float32", "int4"))
    flags = [f"--checkpoint={tmp_path}", "--box=2", "--generate=2", "--clues=7-9", "--canvases=1"]
    assert quantization_quality.main(["quality", *flags]) == 0
    head, _, whole, four = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, whole, four)]
    names, whole, four = cells
    assert names == ["2 puzzles", *quantization_quality.COLUMNS]
    model = Checkpoint.open(tmp_path).load()
    weights = sum(x.nbytes for x in jax.tree.leaves(nnx.state(model))) / 1e6
    assert whole[:5] == ["float32", f"{weights:.2f}", "0.00%", "0", "100.00%"]
    assert four[0] == "int4" and float(four[1]) < 0.4 * weights
    assert 0.1 < float(four[2].rstrip("%")) < 50
    assert quantization_quality.main(["quality", "--generate=2"]) == 2
    assert capsys.readouterr().err == "error: --checkpoint=DIR is needed\n"
