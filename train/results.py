"""Runs all parts of an evaluation and gathers their results for the report.

The items are answered with early stopping, with all steps, and by one start with several smaller
numbers of steps. The results are plain numbers and files.
"""

import csv
import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
from tqdm import tqdm

from sample.step import SamplerConfig
from train import plots
from train.evaluation import Evaluation
from train.evaluation_files import ALL, EARLY, LEFT_TO_RIGHT
from train.outcome import Bins, Outcome, by_bin, paired, shares, summarize, typical


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """What an evaluation does besides answering all items with early stopping.

    Attributes:
      full_steps: whether to answer all items also with all steps, without early stopping.
      budgets: step budgets, that is numbers of denoising steps to compare, ascending. One start
        takes them, whatever the sampler's starts are.
      budget_items: number of items that are asked with each step budget, spread over all items.
      replay: number of the item to show step by step; None for a typical one.
      left_to_right: whether the same weights answer all items also left to right.
    """

    full_steps: bool = True
    budgets: tuple[int, ...] = ()
    budget_items: int = 128
    replay: int | None = None
    left_to_right: bool = False


def measure(
    evaluation: Evaluation, sampler: SamplerConfig, plan: EvaluationPlan
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Carries out an evaluation, with a progress bar for each part.

    Args:
      evaluation: the model and the items.
      sampler: the sampler's settings.
      plan: what to do besides answering all items with early stopping.

    Returns:
      (results, files). The results can be written as JSON: {"task", "items_sha256", "count",
      "seed", "batch_size", "sampler", "modes", "paired", "budgets", "replay"}, as
      train.report.write_report describes them. Files are name -> contents: answers.csv and PNG
      images.

    Raises:
      ValueError: the canvases or the model's context are too small for the items.
    """
    task, items = evaluation.task, evaluation.items

    def run(title: str, rows: np.ndarray, left_to_right: bool = False, **changes: Any) -> Outcome:
        settings = dataclasses.replace(sampler, **changes)
        with tqdm(total=len(rows), desc=title, unit=task.noun) as bar:
            return evaluation.run(settings, rows, bar.update, left_to_right=left_to_right)

    every = np.arange(len(items))
    outcomes = {EARLY: run("early stopping", every)}
    if plan.full_steps:
        outcomes[ALL] = run("all steps", every, early_stop=False)
    if plan.left_to_right:
        outcomes[LEFT_TO_RIGHT] = run("left to right", every, left_to_right=True)
    early, bins = outcomes[EARLY], _bins(evaluation)

    some = np.linspace(0, len(items) - 1, min(len(items), plan.budget_items))
    some = np.unique(some.round().astype(int))
    divided = next(iter(bins.values()), {f"all {task.noun}s": np.ones(len(items), bool)})
    part = {name: rows[some] for name, rows in divided.items()}
    curve = []
    for steps in plan.budgets:
        if steps == sampler.max_steps and ALL in outcomes and sampler.starts == 1:
            found = outcomes[ALL].take(some)
        else:
            found = run(f"{steps} steps", some, max_steps=steps, early_stop=False, starts=1)
        curve.append({"steps": steps, **shares(found), "bins": by_bin(found, part)})

    shown = typical(early) if plan.replay is None else plan.replay
    replay = evaluation.replay(shown, sampler)
    steps = early.steps.sum(axis=1)
    limit = sampler.max_steps * evaluation.canvases * sampler.starts
    files = {
        "answers.csv": _answers(evaluation, outcomes),
        "steps.png": plots.steps_histogram(steps, early.exact, limit, task.noun),
        "replay.png": task.picture(items[shown], replay),
    }
    if curve:
        label = f"{task.noun}s {task.measures['exact']}"
        files["budget.png"] = plots.budget_plot(curve, by_bin(early.take(some), part), label)
    results = {
        "task": {
            "name": task.name,
            "title": task.title,
            "noun": task.noun,
            "measures": dict(task.measures),
            "published": dict(task.published),
            "notes": list(task.notes),
            "settings": dataclasses.asdict(task),
        },
        "items_sha256": hashlib.sha256(repr([*map(task.columns, items)]).encode()).hexdigest(),
        "count": len(items),
        "seed": evaluation.seed,
        "batch_size": evaluation.batch_size,
        "sampler": dataclasses.asdict(sampler),
        "modes": {mode: summarize(outcome, bins) for mode, outcome in outcomes.items()},
        "paired": paired(early, outcomes[ALL]) if ALL in outcomes else None,
        "budgets": curve,
        "replay": {"item": shown, "steps": len(replay.pieces)},
    }
    return results, {name: contents for name, contents in files.items() if contents is not None}


def _bins(evaluation: Evaluation) -> Bins:
    """The bins of the task as arrays, [N] bool each."""
    found = evaluation.task.bins(evaluation.items)
    return {title: {k: np.asarray(v) for k, v in parts.items()} for title, parts in found.items()}


def _answers(evaluation: Evaluation, outcomes: dict[str, Outcome]) -> bytes:
    """The contents of answers.csv, one row for each item.

    The task's columns come first. Then come columns for each mode: the answer, its measures from 0
    to 1, and the number of denoising steps.
    """
    task, text = evaluation.task, io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    fields = ("answer", *task.measures, "steps")
    modes = [f"{field}_{mode}" for mode in outcomes for field in fields]
    rows.writerow([*task.columns(evaluation.items[0]), *modes])
    for i, item in enumerate(evaluation.items):
        row = list(task.columns(item).values())
        for outcome in outcomes.values():
            row.append(task.shown(outcome.answers[i]))
            row += [f"{outcome.scores[name][i]:g}" for name in task.measures]
            row.append(int(outcome.steps[i].sum()))
        rows.writerow(row)
    return text.getvalue().encode()
