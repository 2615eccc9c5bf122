"""The long-context report: what counts as found, the bytes of the cache, and bad input."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from data.tasks.needle import NeedleSource
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from sample import Generation, SamplerConfig
from sample.command import session
from scripts.long_context import FULL, PEAK, SLIDING, main, measure

MODULE = "scripts.long_context"
CONFIG = ModelConfig.preset(
    "tiny",
    vocab_size=1024,
    canvas_size=8,
    layer_types=("sliding", "full"),
    max_length=100,
    stop_ids=(1, 106, 50),
)


@pytest.fixture(scope="module")
def model() -> DiffusionGemma:
    return DiffusionGemma(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "model"
    save_checkpoint(model, path)
    Tokenizer.load().save(path)
    return path


@pytest.fixture
def parrot(monkeypatch) -> tuple[list[str], list[str]]:
    """Replaces the sampler: its texts, said in turn, and the prompts that it was given."""
    tok, texts, prompts = Tokenizer.load(), [], []

    def generate(model, tokens, mask, key, config, *, clock, **options):
        for name in ("prefill", "denoise"):
            clock.lap(name)
        text = tok.encode(texts[len(prompts) % len(texts)])
        prompts.append(tok.decode(tokens[0][mask[0]], skip_special=False))
        out = np.array([[*text, tok.turn_end_id, *[tok.pad_id] * (7 - len(text))]])
        return Generation(out, np.array([[2]]), np.array([[len(text) + 1]]))

    monkeypatch.setattr(session, "generate", generate)
    return texts, prompts


def test_found_is_the_number_and_nothing_else(model, parrot):
    source = NeedleSource(7, 4, 60, 60, anywhere=False)
    items = [source[i] for i in range(4)]
    answers = [item["answer"] for item in items]
    texts, prompts = parrot
    # Right; cut short; the answer to another prompt; with a word behind it.
    texts += [answers[0], answers[1][:-2], answers[3], f"{answers[3]} red"]
    template = ChatTemplate(Tokenizer.load())
    found = measure(model, template, items, SamplerConfig(), 0)
    assert all(item["prompt"] in prompt for item, prompt in zip(items, prompts, strict=True))
    assert (found["length"], found["exact"]["rate"], found["exact"]["count"]) == (60, 0.25, 4)
    assert found["exact"]["low"] < 0.25 < found["exact"]["high"]
    # Keys and values in float32: for every token in the full layer, for a window in the other.
    assert found["bytes"][FULL] == 2 * 60 * 16 * 4
    assert found["bytes"][SLIDING] == 2 * (CONFIG.window - 1) * 2 * 8 * 4
    with pytest.raises(ValueError, match="prompts of different lengths"):
        measure(model, template, [*items, NeedleSource(7, 1, 61, 61)[0]], SamplerConfig(), 0)


def test_the_report_has_a_row_for_each_length(folder, parrot, tmp_path, capsys, monkeypatch):
    parrot[0].append("1 2 3 4 5")
    commands = []

    def run(command, stdout, text):
        """What the child does, without starting Python and JAX again."""
        commands.append(command)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = main(command[2:])
        return subprocess.CompletedProcess(command, status, said.getvalue())

    monkeypatch.setattr(subprocess, "run", run)
    out = tmp_path / "report"
    flags = [f"--checkpoint={folder}", f"--out={out}", "--lengths=80,40", "--prompts=2"]
    assert main(["long_context", *flags, "--max_steps=2"]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "REPORT.md",
        "long_context.png",
        "results.json",
    ]
    assert [command[:3] for command in commands] == [[sys.executable, "-m", MODULE]] * 2
    results = json.loads((out / "results.json").read_text())
    short, long = results["rows"]
    assert (short["length"], long["length"]) == (40, 80) and results["window"] == CONFIG.window
    assert long["bytes"][FULL] == 2 * short["bytes"][FULL]
    assert long["bytes"][SLIDING] == short["bytes"][SLIDING]
    for row in (short, long):
        assert row["exact"]["count"] == 2 and row["bytes"][PEAK] > 1e7
        assert row["prefill_seconds"] > 0 and results["sampler"]["max_steps"] == 2
    report = (out / "REPORT.md").read_text()
    assert "--lengths=80,40" in report and "--prompts=2" in report
    assert all(len(line) <= 120 for line in report.splitlines() if not line.startswith("|"))
    assert "| 80 | 0.0 % [0.0, 65.8] of 2 |" in report
    assert (out / "long_context.png").read_bytes().startswith(b"\x89PNG")
    assert "| 80 |" in capsys.readouterr().out


def test_a_length_that_fails_ends_it_without_a_report(folder, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 2, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    out = tmp_path / "report"
    assert main(["long_context", f"--checkpoint={folder}", f"--out={out}", "--lengths=40"]) == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lengths=40,93"], "93 tokens and a canvas exceed the model's context: at most 92"),
        (["--lengths=40,31"], "prompts of 31 to 31 tokens: a needle takes 32 or more"),
        (["--lengths=40,4k"], "--lengths=40,4k: expected numbers of tokens"),
        (["--lengths="], "--lengths=: expected numbers of tokens"),
        (["--checkpoint="], "--checkpoint=DIR and --out=DIR are needed"),
        (["--checkpoint=nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, tmp_path, capsys, flags, said):
    out = tmp_path / "report"
    assert main(["long_context", f"--checkpoint={folder}", f"--out={out}", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not out.exists()
