"""scripts.compare_checkouts of this checkout with itself, with a planted difference, and errors."""

from pathlib import Path

import jax
import numpy as np

from diffusiongemma import load_checkpoint
from sample import SamplerConfig, generate
from scripts.compare_checkouts import __main__, cases, probe

ROOT = Path(__file__).resolve().parents[3]


def test_this_checkout_equals_itself(monkeypatch, capsys):
    monkeypatch.setattr(cases, "CONVERSIONS", (("tiny to orbax", "tiny", "orbax", {}),))
    assert __main__.main(["compare", str(ROOT), "--only=conversion"]) == 0
    said = capsys.readouterr().out
    assert "| tiny to orbax | " in said and " | equal |" in said and "no difference" in said


def test_a_difference_is_named_and_counted(monkeypatch, capsys):
    same = {"loss": b"1", "weights": b"2"}
    rows = [cases.Row("equal ones", same, same), cases.Row("others", same, same | {"loss": b"3"})]
    rows.append(cases.Row("nothing", {}, {}))
    monkeypatch.setitem(cases.EXACT, "training", lambda *_: iter(rows))
    assert __main__.main(["compare", f"--other={ROOT}", "--only=training"]) == 1
    said = capsys.readouterr().out
    assert "| others | 2 | " in said and "DIFFERENT in 1: loss |" in said
    assert "nothing was written" in said and "2 comparisons differ." in said


def test_the_tiny_model_and_its_prompts_try_the_loop(tmp_path):
    """Rows of different lengths, canvases that settle after different steps, several canvases."""
    shared = cases.prepare(ROOT, tmp_path / "shared")
    with np.load(shared.prompts["tiny"]) as prompts:
        tokens, mask = prompts["tokens"], prompts["mask"]
    assert len(set(mask.sum(axis=1))) == len(mask) > 2
    sampler = SamplerConfig(**cases.TINY_SAMPLER)
    out = generate(
        load_checkpoint(shared.checkpoints["tiny"]), tokens, mask, jax.random.key(0), sampler
    )
    assert out.steps.shape[1] == 3 and len(np.unique(out.steps)) > 3


def test_names_of_this_checkout_are_found():
    for name, modules in probe.NAMES.items():
        assert probe.find(name).__module__ == modules[0]


def test_bad_input_is_one_line(tmp_path, capsys):
    assert __main__.main(["compare"]) == 2
    assert capsys.readouterr().err == "error: name the root of the other checkout\n"
    assert __main__.main(["compare", str(tmp_path)]) == 2
    assert "not a checkout of this project" in capsys.readouterr().err
