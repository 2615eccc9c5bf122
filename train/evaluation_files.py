"""The files that evaluations and training runs write, and how a report reads them."""

import csv
import io
from pathlib import Path
from typing import Any

from files.json_file import read_json_object
from files.text_file import read_text
from train.metrics_log import METRICS, read_lines

RESULTS, ANSWERS = "results.json", "answers.csv"
# Modes of an evaluation, as these files name them.
EARLY, ALL, LEFT_TO_RIGHT = "early_stop", "all_steps", "left_to_right"
IMAGES = {  # file -> its title in a report, in the order of the report
    "before_after.png": "Before and after",
    "training.png": "The training run: the loss, and the {noun}s held out of it",
    "budget.png": "Accuracy against the number of steps",
    "steps.png": "Steps that {noun}s took with early stopping",
    "replay.png": "One {noun}, denoised step by step",
}


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Reads what train.evaluate wrote to a folder.

    Returns:
      the fields of results.json; "images", name -> bytes of a PNG file; and "solved", first column
      of answers.csv -> bool, whether the answer with early stopping is right.

    Raises:
      ValueError: the folder holds no evaluation.
      OSError: a file cannot be read.
    """
    results, answers = read_json_object(folder / RESULTS), read_text(folder / ANSWERS)
    try:
        missing = {"modes", "paired", "count", "sampler", "device", "task"}.difference(results)
        if missing:
            raise ValueError(f"{RESULTS} lacks {', '.join(sorted(missing))}")
        rows = csv.DictReader(io.StringIO(answers))
        first = (rows.fieldnames or [""])[0]  # this column identifies an item
        solved = {row[first]: row[f"exact_{EARLY}"] == "1" for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder} holds no evaluation: {error}") from None
    images = {name: (folder / name).read_bytes() for name in IMAGES if (folder / name).exists()}
    return {**results, "images": images, "solved": solved}


def read_training(workdir: Path) -> dict[str, Any]:
    """Reads the log and the config of a training run.

    Returns:
      "losses", the lines of metrics.jsonl that have a loss; "evals", those that have a share of
      exact answers; "config", the fields of config.json.

    Raises:
      ValueError: a file is damaged.
      OSError: a file cannot be read.
    """
    rows = [figures for _, figures in read_lines(workdir / METRICS)]
    losses = [row for row in rows if "loss" in row]
    evals = [row for row in rows if "eval/exact" in row]
    return {"losses": losses, "evals": evals, "config": read_json_object(workdir / "config.json")}
