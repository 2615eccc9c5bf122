"""Figures of hand-made outcomes, and the report before and after fine-tuning."""

import dataclasses
import json

import numpy as np
import pytest

from data.measures import wilson
from data.sudoku.grids import digits
from data.sudoku.sources import SudokuSource
from data.tasks.sudoku import SudokuTask
from train import report
from train.evaluation import Outcome, by_bin, paired, shares, summarize

TASK = SudokuTask()


def outcome(exact, steps=2, valid_tokens=10) -> Outcome:
    """Puzzles solved, or with a quarter of their cells right; each takes one canvas."""
    exact = np.array(exact, float)
    num = len(exact)
    return Outcome(
        answers=np.where(exact, "right", "wrong").astype(object),
        scores={
            "exact": exact,
            "valid": exact,
            "clues_kept": np.ones(num),
            "parts": np.where(exact, 1.0, 0.25),
        },
        steps=np.broadcast_to(np.int32(steps), num)[:, None],
        valid_tokens=np.broadcast_to(np.int32(valid_tokens), num)[:, None],
        seconds=np.full(num, 0.5),
        compile_seconds=3.0,
    )


@pytest.fixture(scope="module")
def puzzles():
    """Three with 40 clues or more, two with 30 to 39."""
    ranges = [(40, 40), (41, 41), (50, 50), (39, 39), (30, 30)]
    return [SudokuSource(0, 1, 3, r, "test")[0] for r in ranges]


def test_summary_of_known_outcome(puzzles):
    found = outcome([1, 1, 0, 1, 0], [2, 4, 6, 8, 40], [10, 10, 10, 10, 40])
    got = summarize(found, TASK.bins(puzzles))
    low, high = wilson(3, 5)
    assert got["exact"] == {"rate": 0.6, "low": low, "high": high, "count": 5}
    assert got["parts"]["rate"] == pytest.approx(0.7)
    assert got["clues_kept"]["rate"] == got["clues_kept"]["high"] == 1
    assert got["steps"]["mean"] == 12 and got["steps"]["quartiles"] == [4, 6, 8]
    assert got["steps"]["effective"] == (20 + 40 + 60 + 80 + 1600) / 80
    assert got["tokens_per_forward"] == 80 / 60
    assert got["seconds_per_item"] == 0.5 and got["compile_seconds"] == 3
    by_clues, by_technique = got["bins"]["clues"], got["bins"]["technique"]
    bins = {name: (b["count"], b["exact"]["rate"]) for name, b in by_clues.items()}
    assert bins == {"40 or more clues": (3, 2 / 3), "30-39 clues": (2, 0.5)}
    assert by_clues["30-39 clues"]["mean_steps"] == 24
    assert sum(b["count"] for b in by_technique.values()) == 5
    json.dumps(got, allow_nan=False)


def test_canvases_are_summed_up_by_answer():
    """Two canvases for the first answer, one for the second: a canvas not begun does not count."""
    found = dataclasses.replace(
        outcome([1, 0]),
        steps=np.array([[3, 5], [4, 0]], np.int32),
        valid_tokens=np.array([[10, 2], [6, 0]], np.int32),
    )
    got = summarize(found, {})
    assert got["steps"]["mean"] == got["mean_steps"] == 6
    assert got["steps"]["effective"] == (30 + 10 + 24) / 18
    assert got["tokens_per_forward"] == 18 / (12 + 3 - 2)  # one commit, between the two
    assert got["bins"] == {}


def test_pairs_are_counted():
    early, full = outcome([1, 1, 1, 0, 0, 0]), outcome([1, 1, 0, 1, 0, 0])
    assert paired(early, full) == {
        "both": 2, "only_early_stop": 1, "only_all_steps": 1, "neither": 2, "same_answer": 4,
    }  # fmt: skip


def evaluation(folder, puzzles, early, full=None):
    """A folder as train.evaluate leaves it."""
    bins = TASK.bins(puzzles)
    outcomes = {"early_stop": outcome(early)} | ({"all_steps": outcome(full, 48)} if full else {})
    results = {
        "command": "python -m train.evaluate --out=x",
        "checkpoint": "x/model",
        "task": {
            "name": "sudoku",
            "title": "Sudoku",
            "noun": "puzzle",
            "measures": TASK.measures,
            "notes": ["A note of the task."],
            "settings": {"box": 3, "path": ""},
        },
        "items": "held out",
        "count": len(puzzles),
        "seed": 3,
        "batch_size": 2,
        "sampler": {"max_steps": 48, "stop_ids": None},
        "device": "CPU",
        "modes": {mode: summarize(o, bins) for mode, o in outcomes.items()},
        "paired": paired(*outcomes.values()) if full else None,
        "budgets": [
            {
                "steps": 1,
                **shares(outcome(early)),
                "bins": by_bin(outcome(early), bins["clues"]),
            }
        ],
    }
    lines = ["puzzle,solution,answer_early_stop,exact_early_stop,steps_early_stop"]
    for item, right in zip(puzzles, early, strict=True):
        lines.append(f"{digits(item['puzzle'])},12,{12 if right else ''},{right},2")
    files = {"answers.csv": "\n".join(lines).encode(), "replay.png": b"a picture"}
    report.write_report(folder, results, files)
    return folder


@pytest.fixture
def folders(tmp_path, puzzles):
    workdir = tmp_path / "run"
    workdir.mkdir()
    rows = [{"step": s, "loss": 3 / s, "denoise_loss": 2 / s, "seconds": 6 * s} for s in (10, 20)]
    rows.append({"step": 20, "eval/exact": 0.75, "eval/steps": 9.0, "seconds": 125.0})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (workdir / "config.json").write_text(json.dumps({"steps": 20, "batch_size": 8, "seed": 1}))
    return {
        "base": evaluation(tmp_path / "base", puzzles[:3], [0, 0, 0]),
        "tuned": evaluation(tmp_path / "tuned", puzzles, [1, 1, 0, 1, 1], [1, 1, 1, 0, 1]),
        "workdir": workdir,
        "out": tmp_path / "out",
    }


def rename_task(folder):
    results = json.loads((folder / "results.json").read_text())
    results["task"]["name"] = "needle"
    (folder / "results.json").write_text(json.dumps(results))


def arguments(folders):
    return ["report", *(f"--{name}={folder}" for name, folder in folders.items())]


def test_before_and_after(folders):
    assert report.main(arguments(folders)) == 0
    out = folders["out"]
    text = (out / "REPORT.md").read_text()
    # The puzzles of both are the first three.
    assert (
        "Of the 3 puzzles that both were asked, **0.0 % [0.0, 56.1]** are solved exactly by the "
        "base model and **66.7 % [20.8, 93.9]** by the tuned one." in text
    )
    assert "do not count the same puzzles" in text
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert rows[0] == ["", "base", "tuned, early stopping", "tuned, all steps"]
    cells = {row[0]: row[1:] for row in rows[:14]}
    assert cells["puzzles"] == ["3", "5", "5"]
    assert [c.split()[0] for c in cells["solved exactly"]] == ["0.0", "80.0", "80.0"]
    assert cells["tokens per forward"] == ["5.00", "5.00", "0.21"]
    assert next(row[:3] for row in rows if row[0] == "30-39 clues") == [
        "30-39 clues",
        "tuned, early stopping",
        "2",
    ]
    assert (
        "Both answers are right for 3 puzzles, only the one with early stopping for 1, only the "
        "one without for 1, and neither for 0." in text
    )
    assert "- A note of the task." in text and "- Brackets hold 95 % Wilson intervals" in text
    assert "puzzles, held out, box 3; seed 3" in text
    assert "loss 0.1500 at step 20 after 2.0 minutes" in text
    assert "75.0 % of held-out" in text
    images = {"before_after.png", "training.png", "replay.png"}
    assert {p.name for p in out.iterdir()} == {"REPORT.md", *images}
    assert all(f"]({name})" in text for name in images)

    table = (folders["tuned"] / "REPORT.md").read_text().split("## Step budgets")[1]
    assert "| steps | 40 or more clues (3 puzzles) | 30-39 clues (2 puzzles) |" in table
    assert [cell.split()[0] for cell in table.split("| 1 | ")[1].split("\n")[0].split(" | ")] == [
        "66.7",
        "100.0",
    ]

    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert report.main(arguments(folders)) == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.pop("base"), "--base=DIR"),
        (lambda f: f.update(base=f["workdir"]), "results.json: No such file"),
        (lambda f: (f["base"] / "results.json").write_text("{}"), "lacks count"),
        (lambda f: (f["tuned"] / "answers.csv").write_text("puzzle\n1"), "holds no evaluation"),
        (lambda f: (f["tuned"] / "answers.csv").write_text(""), "no puzzle in common"),
        (lambda f: rename_task(f["base"]), "the evaluations are of needle and of sudoku"),
        (lambda f: (f["workdir"] / "metrics.jsonl").write_text("{"), "is no training run"),
        (lambda f: (f["workdir"] / "metrics.jsonl").unlink(), "metrics.jsonl: No such file"),
        (lambda f: f.update(out=f["base"] / "results.json"), "not a folder"),
    ],
)
def test_errors_are_one_line(folders, capsys, damage, message):
    damage(folders)
    assert report.main(arguments(folders)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not folders["workdir"].with_name("out").exists()
