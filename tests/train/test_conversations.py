"""Fine-tuning on conversations, from a checkpoint's folder to a model that answers."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from data.text.conversations import parse_conversation, split_of
from data.text.tokenizer import DEFAULT_PATH
from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from diffusiongemma.formats.companions import KNOWN as COMPANIONS
from sample import main as sample_main
from sample.generation_config import sampler_defaults
from tests.data.text.templates import RELEASE
from tests.train.runs import environment_for, start
from train.config import RunConfig
from train.loop import train

CANVAS, STEPS = 16, 8
CONFIG = f"""
from configs import chat_26b_lora

def get_config():
    config = chat_26b_lora.get_config()
    config.dtype, config.remat = "float32", False
    config.steps, config.log_every, config.checkpoint_every = {STEPS}, 1, 2
    config.data.prompt_length = 48
    config.loss.update(canvas_size={CANVAS}, num_canvases=2)
    config.optimizer.warmup = 2
    config.eval.update(every=4, num=4, batch_size=2)
    config.sampler.max_steps = 2
    return config
"""
WORDS = "apple bread milk salt rice water tea cup plate spoon knife table".split()  # noqa: SIM905


def make_folder(folder: Path, vocab_size: int = 1025, tokenizer: bool = True) -> Path:
    """A tiny model with a tokenizer of 1025 tokens, one more than ours."""
    shape = ModelConfig.preset(
        "tiny",
        vocab_size=vocab_size,
        canvas_size=CANVAS,
        layer_types=("full",),
        max_length=256,
        stop_ids=(1, 106, 50),
    )
    save_checkpoint(DiffusionGemma(shape, rngs=nnx.Rngs(0)), folder)
    description = json.loads(DEFAULT_PATH.read_text())
    extra = dict(description["added_tokens"][-1], id=1024, content="Quack", special=False)
    description["added_tokens"].append(extra)
    if tokenizer:
        (folder / "tokenizer.json").write_text(json.dumps(description))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<bos>"}')
    (folder / "chat_template.jinja").write_text(RELEASE)
    settings = {"max_denoising_steps": 3, "max_new_tokens": 2 * CANVAS}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    (folder / "sampler.json").write_text('{"restart_every": 100}')
    return folder


def question(i: int) -> dict[str, str]:
    """A prompt and an answer of one or two canvases.

    The prompt fits only if the folder's tokenizer is used.
    """
    words = [WORDS[(i + j) % len(WORDS)] for j in range(4 + i % 10)]
    return {"prompt": f"{'Quack' * 20} {i}", "response": " ".join(words)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("chat") / "init")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "chat.jsonl"
    path.write_text("".join(f"{json.dumps(question(i))}\n" for i in range(60)))
    return path


def figures(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def same_companions(folder: Path, init: Path) -> None:
    """Checks that the files beside the weights are the init folder's, with the run's sampler."""
    for name in COMPANIONS:
        if name != "generation_config.json":
            assert (folder / name).read_bytes() == (init / name).read_bytes()
    settings = sampler_defaults(init)
    assert settings["max_steps"] == 3
    assert sampler_defaults(folder) == settings | {"max_steps": 2}


def test_from_a_folder_to_one_that_answers(folder, file, tmp_path, capsys):
    environment, workdir = environment_for(tmp_path, CONFIG), tmp_path / "run"
    flags = [f"--config.init={folder}", f"--config.data.path={file}"]
    process = start(workdir, environment, *flags)
    while process.poll() is None and not (workdir / "checkpoints" / "2").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    # What belongs to the model lies beside the checkpoints from the beginning.
    same_companions(workdir, folder)
    before = [line for line in figures(workdir) if line["step"] <= 2]
    process = start(workdir, environment, *flags)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert f"step {STEPS}, an answer: " in said

    lines = figures(workdir)
    assert lines[: len(before)] == before  # it went on: their seconds are the old ones
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == list(range(1, STEPS + 1))
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    evaluated = [line for line in lines if "eval/denoise_loss" in line]
    assert [line["step"] for line in evaluated] == [4, 8]
    accuracies = ("denoise_accuracy", "answer_accuracy", "fill_accuracy")
    names = ("denoise_loss", "encoder_loss", "steps", "tokens", *accuracies)
    assert all(
        set(line) == {"step", "seconds"} | {f"eval/{name}" for name in names} for line in evaluated
    )

    same_companions(workdir / "model", folder)
    assert sample_main.main(["main", f"--checkpoint={workdir / 'model'}", "--prompt=Quack 3"]) == 0
    said = capsys.readouterr()
    assert " steps" in said.err  # of at most 2 and 32 tokens: the folder's defaults
    tokens = int(said.err.split()[0])
    assert 1 <= tokens <= 2 * CANVAS


def fields(file: Path, init: Path) -> dict:
    return {
        "seed": 0,
        "steps": 2,
        "batch_size": 2,
        "init": str(init),
        "data": {"task": "conversations", "prompt_length": 48, "path": str(file)},
        "loss": {"canvas_size": CANVAS, "num_canvases": 2},
        "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 1},
        "eval": {"every": 1, "num": 4, "batch_size": 2},
    }


def refusal(run: dict, workdir: Path) -> str:
    config = RunConfig.from_dict(run)
    with pytest.raises(ValueError) as caught:
        train(config, workdir)
    assert not workdir.exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_data_stop_a_run_before_it_reads_weights(folder, file, tmp_path):
    # There are no weights to read, so the data are read first.
    init = tmp_path / "init"
    init.mkdir()
    for name in COMPANIONS:
        (init / name).write_bytes((folder / name).read_bytes())
    workdir, broken = tmp_path / "run", tmp_path / "broken.jsonl"
    lines = file.read_text().splitlines()
    lines[4] = json.dumps(question(4) | {"response": "apple " * 40})
    broken.write_text("\n".join(lines))
    assert "1 of 60 records cannot be trained on (line 5: answer of 41 tokens" in refusal(
        fields(broken, init), workdir
    )
    (init / "chat_template.jinja").write_text(RELEASE.replace("thought", "musing"))
    assert "the prompt that it writes is not how" in refusal(fields(file, init), workdir)
    (init / "chat_template.jinja").write_text("{% if %}")
    assert "chat_template.jinja, line 1: " in refusal(fields(file, init), workdir)
    (init / "chat_template.jinja").unlink()
    few = [line for line in file.read_text().splitlines(keepends=True) if kept(line)][:3]
    broken.write_text("".join(few))
    assert "none fell to the 10% held out" in refusal(fields(broken, init), workdir)


def kept(line: str) -> bool:
    return split_of(parse_conversation(line.encode())) == "train"


@pytest.mark.parametrize(
    ("vocab_size", "tokenizer", "error"),
    [
        (1020, True, "a tokenizer of 1025 tokens for a model of 1020"),
        (1025, False, "a tokenizer of 1024 tokens for a model of 1025"),
    ],
)
def test_a_tokenizer_for_another_model(file, tmp_path, vocab_size, tokenizer, error):
    init = make_folder(tmp_path / "init", vocab_size, tokenizer)
    run = fields(file, init)
    run["data"]["prompt_length"] = 200  # our tokenizer needs more tokens
    said = refusal(run, tmp_path / "run")
    assert said == f"{error}: put the model's tokenizer.json into {init}"


def test_rows_longer_than_the_context(folder, file, tmp_path):
    run = fields(file, folder)
    run["data"]["prompt_length"] = 225
    assert "= 257 exceeds the model's context of 256" in refusal(run, tmp_path / "run")


def test_without_a_checkpoint_the_tokenizer_is_ours(tmp_path):
    assert refusal(fields(tmp_path, Path("nowhere")), tmp_path / "run") == "nowhere: no such folder"
    run = fields(tmp_path, tmp_path) | {"init": "", "preset": "tiny"}
    run["overrides"] = {"layer_types": ("full",)}
    run["data"] = {"task": "base_mixture", "prompt_length": 116}
    run["loss"] = {"canvas_size": 90}
    found = refusal(run, tmp_path / "run")
    assert found == "a tokenizer of 1024 tokens for a model of 64: set overrides.vocab_size"
