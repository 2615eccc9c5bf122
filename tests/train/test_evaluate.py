"""The evaluation: scores of known answers, the command from end to end, and its errors."""

import csv
import dataclasses
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.sudoku import replay_strip
from data.sudoku.csv_file import read_csv, write_csv
from data.sudoku.grids import digits, prompt, render
from data.sudoku.sources import SudokuSource
from data.tasks.sudoku import SudokuTask
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from diffusiongemma.head import Prediction
from sample import SamplerConfig
from sample.generation_config import save_sampler_defaults
from tests.data.text.messages import chat_answer, chat_prompt
from tests.diffusiongemma.formats.folders import make_adapter
from train import evaluate as command
from train.evaluation import Evaluation, typical

BOX, CANVAS = 2, 24
CONFIG = ModelConfig.preset(
    "tiny",
    vocab_size=1024,
    canvas_size=CANVAS,
    layer_types=("full",),
    stop_ids=(1, 106, 50),
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load()


@pytest.fixture(scope="module")
def template(tokenizer):
    return ChatTemplate(tokenizer)


@pytest.fixture(scope="module")
def puzzles():
    return [SudokuSource(0, 5, BOX, (7, 9), "test")[i] for i in range(5)]


class Oracle(nnx.Module):
    """Sure of answers[i] where the prompt is prompts[i], from the first step on."""

    def __init__(self, prompts: np.ndarray, answers: np.ndarray):
        self.config, self.dtype = CONFIG, jnp.float32
        self.prompts, self.answers = nnx.Param(jnp.array(prompts)), nnx.Param(jnp.array(answers))

    def init_cache(self, batch_size, max_length):
        return jnp.zeros(batch_size, jnp.int32)

    def encode(self, tokens, cache, mask, *, logits):
        same = (tokens[:, None] == self.prompts[...]).all(-1)
        return None, jnp.argmax(same, axis=1)

    def predict(self, canvas, cache, soft, temperature, noise):
        answer = self.answers[...][cache]
        return Prediction(answer, answer, jnp.zeros(answer.shape), soft)


@pytest.fixture(scope="module")
def oracle(tokenizer, puzzles):
    """Answers: right; another valid grid; a cell wrong; no grid; right but for a missing stop."""
    grids, solutions = ([item[name] for item in puzzles] for name in ("puzzle", "solution"))
    relabelled = solutions[1] % 4 + 1
    wrong = solutions[2].copy()
    empty = np.flatnonzero(grids[2] == 0)[0]
    wrong[empty] = wrong[empty] % 4 + 1
    texts = [chat_answer(render(g)) for g in (solutions[0], relabelled, wrong)]
    texts += [chat_answer("Solve it: 1 2 3"), render(solutions[4])]
    answers = np.full((5, CANVAS), tokenizer.eos_id, np.int32)
    for row, text in zip(answers, texts, strict=True):
        ids = tokenizer.encode(text)
        row[: len(ids)] = ids
    prompts = np.array([tokenizer.encode(chat_prompt(prompt(grid))) for grid in grids])
    return Oracle(prompts, answers)


@pytest.fixture(scope="module")
def evaluation(oracle, template, puzzles):
    return Evaluation(oracle, template, SudokuTask(box=BOX), puzzles, batch_size=2)


def test_known_answers_are_scored(evaluation, puzzles):
    done = []
    got = evaluation.run(SamplerConfig(), progress=done.append)
    assert got.exact.tolist() == [True, False, False, False, True]
    assert got.scores["valid"].tolist() == [True, True, False, False, True]
    assert got.scores["clues_kept"].tolist() == [True, False, True, False, True]
    empty = np.sum(puzzles[2]["puzzle"] == 0)
    np.testing.assert_allclose(got.scores["parts"], [1, 0, (empty - 1) / empty, 0, 1])
    solutions = [item["solution"] for item in puzzles]
    assert got.answers[0] == render(solutions[0]) and got.answers[4] == render(solutions[4])
    assert got.answers[3] == "Solve it: 1 2 3"
    assert got.steps.tolist() == [[2]] * 5
    # The end of the turn counts, or where it is missing the first token of the fill.
    length = len(evaluation.template.tokenizer.encode(render(solutions[0]))) + 1
    assert got.valid_tokens[[0, 4]].tolist() == [[length], [length]]
    assert done == [2, 2, 1]
    assert (got.seconds > 0).all()


def test_some_items_get_what_they_get_among_all(evaluation):
    rows = np.array([4, 1, 3])
    some, every = evaluation.run(SamplerConfig(), rows), evaluation.run(SamplerConfig())
    assert some.answers.tolist() == every.answers[rows].tolist()
    assert all((some.scores[name] == every.scores[name][rows]).all() for name in every.scores)
    taken = every.take(rows)
    assert taken.answers.tolist() == some.answers.tolist()
    assert taken.compile_seconds == every.compile_seconds


def test_time_without_compilation(oracle, template, puzzles):
    evaluation = Evaluation(oracle, template, SudokuTask(box=BOX), puzzles)
    first, second = (evaluation.run(SamplerConfig(max_steps=47)) for _ in range(2))
    assert first.compile_seconds > 0.05
    assert second.compile_seconds < first.compile_seconds / 5
    assert first.seconds.sum() < first.compile_seconds


def test_replay_shows_every_step(evaluation, puzzles, monkeypatch):
    drawn = []
    monkeypatch.setattr(replay_strip, "replay_strip", lambda *arrays: drawn.append(arrays))
    task, sampler = SudokuTask(box=BOX), SamplerConfig(max_steps=4)
    got = evaluation.replay(0, sampler)
    assert got.accepted.shape == got.entropy.shape == (2, CANVAS)  # it stops at the second step
    assert [len(step) for step in got.pieces] == [CANVAS, CANVAS] and got.limit == 4
    task.picture(puzzles[0], got)
    puzzle, solution, shown, accepted, entropy, limit = drawn.pop()
    assert (puzzle == puzzles[0]["puzzle"]).all() and limit == 4
    assert (shown == solution).all() and shown.shape == (2, 16)
    assert accepted.tolist() == [[True] * 16, [False] * 16]
    assert entropy.min() >= 0 and entropy.max() < 1e-3
    # "Solve it: 1 2 3" has digits where it has them, 0 elsewhere.
    task.picture(puzzles[3], evaluation.replay(3, sampler))
    shown = drawn.pop()[2]
    assert 0 < np.mean(shown == 0) < 1 and shown.max() <= 3


def test_a_tokenizer_that_joins_digits_has_no_picture(evaluation, puzzles):
    got = evaluation.replay(0, SamplerConfig(max_steps=4))
    with pytest.raises(ValueError, match="every digit a token"):
        SudokuTask(box=BOX).picture(puzzles[0], got._replace(expected=got.expected[2:]))


def test_typical_puzzle(evaluation):
    outcome = evaluation.run(SamplerConfig())
    steps = np.array([[9], [1], [1], [1], [4]], np.int32)
    for exact, row in (([1, 0, 0, 1, 1], 4), ([0] * 5, 1)):
        scores = outcome.scores | {"exact": np.array(exact, float)}
        assert typical(dataclasses.replace(outcome, steps=steps, scores=scores)) == row


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A finished run's folder, as the trainer leaves it."""
    workdir = tmp_path_factory.mktemp("run")

    @nnx.jit
    def create():
        model = DiffusionGemma(CONFIG, rngs=nnx.Rngs(0))
        model.final_norm.scale[...] *= 8  # sharp enough to settle now and then, but on no grid
        return model

    save_checkpoint(create(), workdir / "model")
    settled = SamplerConfig(entropy_bound=50, stop_threshold=0.3, max_temperature=0.9)
    save_sampler_defaults(settled, workdir / "model")
    (workdir / "config.json").write_text("{}")
    make_adapter(workdir / "adapter", CONFIG, "../model")
    return workdir


def test_command_writes_everything(checkpoint, tmp_path, capsys, puzzles):
    grids = [np.stack([item[name] for item in puzzles]) for name in ("puzzle", "solution")]
    write_csv(tmp_path / "mine.csv", *grids)
    out = tmp_path / "new" / "report"
    arguments = [
        "evaluate",
        f"--checkpoint={checkpoint}",
        f"--puzzles={tmp_path / 'mine.csv'}",
        "--limit=4",
        "--box=2",
        f"--out={out}",
        "--batch_size=3",
        "--max_steps=12",
        "--min_temperature=0.85",  # above the published maximum, below the run's
        "--budgets=12,1",
        "--budget_puzzles=2",
        "--replay=1",
    ]
    assert command.main(arguments) == 0
    assert str(out / "REPORT.md") in capsys.readouterr().out
    names = ["REPORT.md", "answers.csv", "budget.png", "replay.png", "results.json", "steps.png"]
    assert sorted(os.listdir(out)) == names

    results = json.loads((out / "results.json").read_text())
    assert results["count"] == 4 and results["sampler"]["max_steps"] == 12
    # The rest is of the run's generation_config.json.
    settings = [results["sampler"][f"{name}_temperature"] for name in ("min", "max")]
    assert settings == [0.85, 0.9] and results["sampler"]["entropy_bound"] == 50
    assert results["modes"]["all_steps"]["steps"]["mean"] == 12
    assert [(b["steps"], b["count"]) for b in results["budgets"]] == [(1, 2), (12, 2)]
    clues = (grids[0][[0, 3]] > 0).sum(axis=1)  # the two of the budgets
    bins = {"8 or more clues": (clues >= 8).sum(), "6-7 clues": (clues < 8).sum()}
    bins = {name: count for name, count in bins.items() if count}
    for budget in results["budgets"]:
        assert {name: part["count"] for name, part in budget["bins"].items()} == bins
    assert sum(results["paired"][k] for k in ("both", "neither")) == 4
    assert results["command"].startswith("python -m train.evaluate --checkpoint=")
    for image in out.glob("*.png"):
        data = image.read_bytes()
        assert data.startswith(b"\x89PNG") and 5_000 < len(data) < 300_000
        assert f"]({image.name})" in (out / "REPORT.md").read_text()
    with (out / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["steps_early_stop"]) for row in rows]
    assert np.mean(steps) == results["modes"]["early_stop"]["steps"]["mean"]
    assert steps[results["replay"]["item"]] == results["replay"]["steps"]
    exact = [row["exact_early_stop"] == "1" for row in rows]
    assert np.mean(exact) == results["modes"]["early_stop"]["exact"]["rate"]
    assert exact == [row["answer_early_stop"] == row["solution"] for row in rows]
    # The answers are puzzles that can be given again.
    np.testing.assert_array_equal(read_csv(out / "answers.csv", BOX)[0], grids[0][:4])


@pytest.mark.parametrize(("counts", "second"), [("3", 3), ("3,2", 2)])
def test_generated_ranges(counts, second):
    values = command.define_flags(SudokuTask)
    values(["evaluate", f"--generate={counts}", "--clues=8-9,6", "--box=2", "--seed=7"])
    task, items = command.load_items(values, print)
    assert task == SudokuTask(box=2, clues="8-9,6")
    clues = np.array([np.sum(item["puzzle"] > 0) for item in items])
    assert set(clues[:3]) <= {8, 9} and clues[3:].tolist() == [6] * second
    for row, clues in ((1, (8, 9)), (3, (6, 6))):
        expected = SudokuSource(7, 3 + second, BOX, clues, "test")[row]
        assert digits(items[row]["puzzle"]) == digits(expected["puzzle"])
    assert min(item["solution"].min() for item in items) == 1


NEEDED = ["--checkpoint=nowhere", "--out={out}"]
ERRORS = {
    "": "--checkpoint=DIR and --out=DIR are needed",
    "--checkpoint=nowhere --out={out}": "give one of --file=FILE (--puzzles=FILE is the same)",
    "{all} --generate=2 --puzzles=a.csv": "give one of",
    "{all} --generate=2": "nowhere: no such folder",
    "{all} --generate=two": "generate",
    "{all} --generate=0": "generate",
    "{all} --generate=2 --clues=90-91": "clues 90..91",
    "{all} --generate=2 --clues=40-": "is not a range such as 30-39",
    "{all} --generate=2 --clues=50-40": "clues 50..40",
    "{all} --generate=2 --box=4": "box 4: take 3 for 9x9 or 2 for 4x4",
    "{all} --generate=2,3": "2 numbers of puzzles for 1 ranges of clues",
    "{all} --generate=2 --limit=1": "--limit is for --file",
    "{all} --task=sudoko --generate=2": "no task 'sudoko': take one of sudoku, base_mixture",
    "{all} --task=needle --generate=2 --clues=3": "clues",
    "{all} --task=needle --generate=2 --longest=20": "a needle takes 32 or more",
    "{all} --task=needle --file=a.csv": "task needle has no files: its prompts are generated",
    "{all} --task=conversations --generate=2": "task conversations needs a file",
    "{all} --generate=2 --replay=2": "choose one of the puzzles 0..1",
    "{all} --generate=2 --budgets=1,x": "give numbers of steps",
    "--checkpoint={run} --out={out} --generate=2 --max_steps=0": "max_steps must be at least 1",
    "--checkpoint={run} --out={out} --generate=2 --entropy_bound=-1": "must not be negative",
    "{all} --generate=2 --bath_size=2": "bath_size",
    "{all} --generate=2 more": "unexpected argument 'more'",
    "{all} --puzzles=none.csv": "none.csv: cannot be read",
    "--checkpoint=nowhere --out=/dev/null --generate=2": "/dev/null: not a folder",
    "--checkpoint={run} --out={out} --generate=2 --box=2 --canvas_size=9": "the canvas of 9",
    "--checkpoint={run} --out={out} --generate=2": "more than the canvas of 24",
    "--checkpoint={run} --out={out} --generate=2 --box=2 --tokenizer=no.json": "no tokenizer at",
    "--checkpoint={run}/adapter --out={out} --generate=2 --box=2 --canvas_size=8": "canvas of 8",
    "--checkpoint={run}/adapter --base=b --out={out} --generate=2": "whose base b is not there",
}


@pytest.mark.parametrize("line", ERRORS)
def test_errors_are_one_line(line, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    filled = line.replace("{all}", " ".join(NEEDED)).format(out=out, run=checkpoint)
    assert command.main(["evaluate", *filled.split()]) == 2
    # tqdm's bar may precede the error.
    *before, message = capsys.readouterr().err.strip().split("\n")
    assert message.startswith("error: ") and ERRORS[line] in message
    assert all("puzzle/s" in text or not text for text in before)
    assert not out.exists()
