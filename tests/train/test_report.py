"""The reports on hand-made outcomes: of one evaluation, and before and after fine-tuning."""

import dataclasses
import json

import pytest

from data.sudoku.grids import digits
from data.tasks.sudoku import SudokuTask
from tests.train.outcomes import five_puzzles, outcome
from train import report
from train.outcome import by_bin, paired, shares, summarize

TASK = SudokuTask()


@pytest.fixture(scope="module")
def puzzles():
    return five_puzzles()


def evaluation(folder, puzzles, early, full=None):
    """Writes a folder like those of train.evaluate."""
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
    rows[-1] |= {"denoise_accuracy": 0.9, "answer_accuracy": 0.5, "fill_accuracy": 1.0}
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
    prose = " ".join(text.split())
    assert (
        "None of these puzzles was trained on. Of the 3 that both models were asked, the base "
        "model has 0.0 % [0.0, 56.1] solved exactly, and the tuned one has 66.7 % [20.8, 93.9]."
        in prose
    )
    assert "do not count the same puzzles" in text
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert rows[0] == ["", "before", "after"]
    shares = [[cell.split()[0] for cell in row[1:]] for row in (rows[2], rows[3])]
    assert rows[2][0] == "**40 or more clues** (3 puzzles): solved exactly"
    assert shares == [["0.0", "66.7"], ["2.0", "2.0"]]
    assert rows[4][:2] == ["**30-39 clues** (2 puzzles): solved exactly", ""]
    rows = rows[6:]
    assert rows[0] == ["", "base", "tuned, early stopping", "tuned, all steps"]
    cells = {row[0]: row[1:] for row in rows[:15]}
    assert [c.split()[0] for c in cells["right, other format"]] == ["0.0"] * 3
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
        "one without for 1, and neither for 0." in prose
    )
    assert "- A note of the task." in text and "- Brackets hold 95 % Wilson intervals" in text
    assert "\n\n    python -m train.evaluate --out=x\n\n" in text
    assert "puzzles, held out, box 3; seed 3" in prose
    assert "loss 0.1500 at step 20 after 2.0 minutes" in text
    assert (
        "- the most probable token is the right one for 50.0 % of the tokens of answers, 100.0 % "
        "of the fill, 90.0 % of all tokens, the fill included - 75.0 %" in prose
    )
    assert all(len(line) <= 120 or line.startswith("|") for line in text.splitlines())
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


def test_the_first_table_has_published_figures_of_the_same_kind(folders):
    path = folders["tuned"] / "results.json"
    results = json.loads(path.read_text())
    figures = {"who": "published: theirs", "exact": 0.844, "steps": 10.72}
    results["task"]["published"] = {"30-39 clues": figures, "no such kind": figures}
    path.write_text(json.dumps(results))
    assert report.main(arguments(folders)) == 0
    lines = (folders["out"] / "REPORT.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")][:6]
    assert table[0] == "|  | before | after | published: theirs |"
    assert [line.rstrip(" |").split("|")[-1].strip() for line in table[4:]] == ["84.4 %", "10.7"]
    assert table[2].endswith("|  |")


def test_puzzles_of_a_file_may_have_been_trained_on(folders):
    path = folders["tuned"] / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"items": "mine.csv"}))
    assert report.main(arguments(folders)) == 0
    text = (folders["out"] / "REPORT.md").read_text()
    assert "The puzzles are those of mine.csv. Of the 3" in text
    assert "None of these puzzles" not in text


def test_results_and_logs_of_earlier_versions_are_reported(folders):
    path = folders["base"] / "results.json"
    results = json.loads(path.read_text())
    parts = [results["task"]["measures"], *results["modes"].values()]
    parts += [part for bins in parts[1]["bins"].values() for part in bins.values()]
    for part in parts:
        del part["other_format"]
    path.write_text(json.dumps(results))
    log = folders["workdir"] / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        row.pop("answer_accuracy", None), row.pop("fill_accuracy", None)
    log.write_text("\n".join(map(json.dumps, rows)))
    assert report.main(arguments(folders)) == 0
    text = (folders["out"] / "REPORT.md").read_text()
    assert "| right, other format | not measured | 0.0 %" in text
    assert "right one for 90.0 % of all tokens, the fill included" in text


def test_the_headline_names_right_answers_in_another_format():
    found = dataclasses.replace(outcome([1, 0, 0, 0]))
    found.scores["other_format"][1:3] = 1
    results = {"count": 4, "modes": {"early_stop": summarize(found, {})}}
    results["task"] = {"noun": "puzzle", "measures": TASK.measures}
    said = report.headline(results)
    assert said.startswith("Of 4 puzzles 25.0 % [4.6, 69.9] are solved exactly, in ")
    assert said.endswith("Another 50.0 % [15.0, 85.0] are right, but in another format.")


def test_the_headline_of_one_answer_has_no_shares():
    for right, start in ((0, "The puzzle is not solved exactly, in"), (1, "The puzzle is solved")):
        results = {"count": 1, "modes": {"early_stop": summarize(outcome([right]), {})}}
        results["task"] = {"noun": "puzzle", "measures": TASK.measures}
        assert report.headline(results).startswith(start)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.pop("base"), "--base=DIR"),
        (lambda f: f.update(base=f["workdir"]), "results.json: No such file"),
        (lambda f: (f["base"] / "results.json").write_text("{}"), "lacks count"),
        (lambda f: (f["tuned"] / "answers.csv").write_text("puzzle\n1"), "holds no evaluation"),
        (lambda f: (f["tuned"] / "answers.csv").write_text(""), "no puzzle in common"),
        (lambda f: rename_task(f["base"]), "the evaluations are of needle and of sudoku"),
        (lambda f: (f["workdir"] / "metrics.jsonl").write_text("{\n"), "delete the line"),
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
