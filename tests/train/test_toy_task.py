"""A new task is one class. It is defined here and nowhere else, and is trained and evaluated.

The first number of its answers is given, so that kept tokens go the whole way too.
"""

import csv
import dataclasses
import json

import ml_collections

from configs import base
from data.tasks.seeded import SeededSource
from data.tasks.task import UNBOUNDED, Part, Splits, Task
from train import evaluate
from train.config import RunConfig
from train.loop import train


class Doubles(SeededSource):
    """Numbers below 100."""

    def draw(self, rng):
        return int(rng.integers(100))


@dataclasses.dataclass(frozen=True)
class DoublingTask(Task):
    """Write a number `times` times."""

    times: int = 2

    name, title, noun = "doubling", "doubling numbers", "number"

    def open(self, seed, check, test=True):
        return Splits(Doubles(2 * seed, UNBOUNDED), Doubles(2 * seed + 1, UNBOUNDED))

    def text(self, item):
        number = " ".join(str(item))
        return f"Double:\n{number}", " ".join([number] * self.times)

    def parts(self, item):
        number = " ".join(str(item))
        return [Part(number, "kept"), Part(f" {number}" * (self.times - 1), "open")]

    def bins(self, items):
        return {"digits": {"one": [i < 10 for i in items], "two": [i >= 10 for i in items]}}


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.overrides = {"layer_types": ("full",), "width": 32}
    config.steps, config.batch_size, config.mesh.data = 3, 2, 1
    config.data = {"task": f"{__name__}:DoublingTask", "prompt_length": 24, "times": 3}
    config.loss.canvas_size = 12
    config.eval.update(every=3, num=4)
    return config


def test_a_task_of_its_own_is_trained_evaluated_and_reported(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "report"
    assert train(RunConfig.from_dict(get_config().to_dict()), run) == run / "model"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 3] and "eval/exact" in lines[-1]
    assert json.loads((run / "config.json").read_text())["data"]["times"] == 3
    # The task and its settings are those of the run.
    command = [f"--checkpoint={run}", f"--out={out}", "--generate=6", "--budgets=1,2"]
    command.append("--left_to_right")
    assert evaluate.main(["evaluate", *command, "--max_steps=2"]) == 0
    report = (out / "REPORT.md").read_text()
    assert report.startswith("# Evaluation: doubling numbers\n\nOf 6 numbers 0.0 %")
    assert "## By digits" in report and "times 3" in report and "![" in report
    assert "| early stopping | all steps | left to right |" in report
    assert "kept tokens are steps too" in report
    with (out / "answers.csv").open() as file:
        for row in csv.DictReader(file):
            number = row["expected"][: len(row["expected"]) // 3].strip()
            for mode in ("early_stop", "all_steps", "left_to_right"):
                assert row[f"answer_{mode}"].startswith(number)
    header, first, *_ = (out / "answers.csv").read_text().split("\n", 2)
    assert header.startswith("prompt,expected,answer_early_stop,exact_early_stop")
    assert first.startswith('"Double:')
