"""The command train.evaluate from end to end, the items that flags name, and errors."""

import csv
import json
import os

import numpy as np
import pytest
from flax import nnx

from data.sudoku.grids import digits
from data.sudoku.puzzle_file import read_puzzles, write_csv
from data.sudoku.sources import SudokuSource
from data.tasks.sudoku import SudokuTask
from diffusiongemma import DiffusionGemma, save_checkpoint
from sample import SamplerConfig
from sample.generation_config import save_sampler_defaults
from sample.page.read import read_records
from tests.data.sudoku.puzzles import draw
from tests.diffusiongemma.formats.folders import make_adapter
from tests.train.outcomes import BOX, CONFIG, small_puzzles
from train import evaluate as command


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


def test_command_writes_everything(checkpoint, tmp_path, capsys):
    puzzles = small_puzzles()
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
        f"--page={out / 'page.html'}",
    ]
    assert command.main(arguments) == 0
    said = capsys.readouterr()
    assert str(out / "REPORT.md") in said.out
    assert "mine.csv: the first 4 puzzles, columns puzzle and solution, solutions" in said.err
    names = ["REPORT.md", "answers.csv", "budget.png", "page.html", "replay.png", "results.json"]
    assert sorted(os.listdir(out)) == [*names, "steps.png"]

    results = json.loads((out / "results.json").read_text())
    records = read_records(out / "page.html")
    titles = [f"{results['task']['title']}: puzzle {i}" for i in (1, 0, 2)]
    assert [record["title"] for record in records] == titles
    assert records[0]["figures"]["steps"] == results["replay"]["steps"]
    assert records[0]["figures"]["seconds"] > 0 and records[0]["candidates"] == 5
    view, item = records[0]["view"], puzzles[1]
    assert view["size"] == [4, 4] and view["right"] == list(map(str, item["solution"]))
    assert view["clues"] == np.flatnonzero(item["puzzle"]).tolist() and len(view["cells"]) == 16
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
    assert {row["other_format_early_stop"] for row in rows} == {"0"}
    # The answers are puzzles that can be given again.
    np.testing.assert_array_equal(read_puzzles(out / "answers.csv", BOX)[0], grids[0][:4])


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
    "{all} --puzzles=": "--file= is empty: give the path of a file",
    "{all} --page=": "--page=: give the name of a file",
    "{all} --page=/none/page.html": "/none: no such folder",
    "{all} --generate=2": "nowhere: no such folder",
    "{all} --generate=two": "generate",
    "{all} --generate=0": "generate",
    "{all} --generate=2 --clues=90-91": "clues 90..91",
    "{all} --generate=2 --clues=40-": "is not a range such as 30-39",
    "{all} --generate=2 --clues=50-40": "clues 50..40",
    "{all} --generate=2 --box=4": "box 4: take 3 for 9x9 or 2 for 4x4",
    "{all} --generate=2,3": "2 numbers of puzzles for 1 ranges of clues",
    "{all} --generate=2 --limit=1": "--limit is for --file",
    "{all} --task=sudoko --generate=2": "no task 'sudoko': take one of sudoku, sudoku_fill",
    "{all} --task=needle --generate=2 --clues=3": "clues",
    "{all} --task=needle --generate=2 --longest=20": "a needle takes 32 or more",
    "{all} --task=needle --file=a.csv": "task needle has no files: its prompts are generated",
    "{all} --task=conversations --generate=2": "task conversations needs a file",
    "{all} --generate=2 --replay=2": "choose one of the puzzles 0..1",
    "{all} --generate=2 --budgets=1,x": "give numbers of steps",
    "--checkpoint={run} --out={out} --generate=2 --max_steps=0": "max_steps must be at least 1",
    "--checkpoint={run} --out={out} --generate=2 --starts=0": "starts must be at least 1",
    "--checkpoint={run} --out={out} --generate=2 --entropy_bound=-1": "must be above 0",
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


def run_of(workdir, task, **settings):
    """A workdir that says which task its run learned."""
    fields = {"task": task, "prompt_length": 104, **settings}
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(json.dumps({"data": fields}))
    return f"--checkpoint={workdir}"


def test_clues_are_of_generated_puzzles_only(tmp_path, capsys):
    path = tmp_path / "p.csv"
    write_csv(path, *draw(2, 20, 8, 10))
    run = run_of(tmp_path / "run", "sudoku", box=2, clues="4-8", path=str(path))

    def load(*flags):
        values = command.define_flags(SudokuTask)
        values(["evaluate", run, *flags])
        return command.load_items(values, print)

    task, items = load("--generate=3", "--clues=6-7")
    assert task == SudokuTask(box=2, clues="6-7")
    assert {np.count_nonzero(item["puzzle"]) for item in items} <= {6, 7}
    assert f"--clues: the run's file {path} is not used" in capsys.readouterr().err
    # A report names the task's settings, so those of generated puzzles are not among them.
    assert load("--generate=1")[0] == SudokuTask(box=2, path=str(path))
    assert load(f"--puzzles={path}", "--limit=2")[0] == SudokuTask(box=2)
    for flags in ([f"--puzzles={path}"], [f"--path={path}", "--generate=1"]):
        with pytest.raises(ValueError, match="--clues: puzzles of a file are taken as they are"):
            load("--clues=6-7", *flags)


def test_the_flag_puzzles_is_for_puzzles(tmp_path):
    run = run_of(tmp_path / "run", "conversations", path="c.jsonl")
    values = command.define_flags(command.named_task(["evaluate", run]))
    values(["evaluate", run, "--puzzles=p.csv"])
    with pytest.raises(ValueError, match="the task is conversations: give --task=sudoku, or --fil"):
        command.load_items(values, print)
