"""Evaluates a checkpoint on a task: how many answers are right, in how many denoising steps.

    python -m train.evaluate --checkpoint=runs/sudoku --generate=256 --clues=40-50,30-39 --out=DIR
    python -m train.evaluate --checkpoint=runs/sudoku --puzzles=sudoku.csv --limit=512 --out=DIR
    python -m train.evaluate --task=needle --longest=512 --checkpoint=runs/needle --generate=64 --out=DIR

Writes REPORT.md with its images, results.json and answers.csv to --out. The sampler's settings are
those of the checkpoint's generation_config.json, or the published ones; flags win. The settings of
the task are flags too: --task=NAME --help lists them.
"""

import csv
import dataclasses
import hashlib
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from data.tasks.registry import TASKS, make_task, task_class
from data.tasks.task import Task
from data.text.chat_template import ChatTemplate
from sample import cli, compile_cache
from sample.command.flags import define_fields, given_fields
from sample.generation_config import sampler_defaults
from sample.loading import companions, load, locate
from sample.step import SamplerConfig
from train import plots
from train.evaluation import Evaluation, Outcome, by_bin, paired, shares, summarize, typical
from train.report import ALL, EARLY, headline, write_report

SAMPLER_FLAGS = (
    "max_steps",
    "entropy_bound",
    "stop_threshold",
    "min_temperature",
    "max_temperature",
    "canvas_size",
)


def task_name(argv: Sequence[str]) -> str:
    """The task that a command line names, before its other flags are known."""
    values = flags.FlagValues()
    define_task(values)
    values(argv, known_only=True)
    return values.task


def define_task(values: flags.FlagValues) -> None:
    help = f"What is asked: {', '.join(TASKS)}, or MODULE:CLASS."
    flags.DEFINE_string("task", "sudoku", help, flag_values=values)


def define_items(values: flags.FlagValues, task: type[Task]) -> None:
    """The flags of load_items: which items of a task are asked."""
    define_task(values)
    for name, help in {
        "file": "File whose items are asked, all of them; for Sudoku a CSV file with the columns "
        "puzzle and solution.",
        "generate": "Number of held-out items; for several ranges of --clues one number for each, "
        "as 256,64, or one for all.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    flags.DEFINE_alias("puzzles", "file", flag_values=values)
    for name, default, least, help in (
        ("limit", None, 1, "Take only so many items of the file, the first ones."),
        ("seed", 0, 0, "Random seed of the items and of the sampler's noise."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=least, flag_values=values)
    define_fields(values, task, settings(task))


def settings(task: type[Task]) -> list[str]:
    return [field.name for field in dataclasses.fields(task)]


def load_items(values: flags.FlagValues, template: ChatTemplate) -> tuple[Task, list[Any]]:
    """The task and its items as the flags tell; raises ValueError."""
    task = make_task(values.task, given_fields(values, settings(task_class(values.task))))

    def check(conversation) -> None:
        template.example(*conversation)

    if values.file is not None:
        if values.generate is not None:
            raise ValueError("give one of --file=FILE (or --puzzles=FILE) and --generate=N")
        return task, task.read(values.file, values.limit, check)
    if values.generate is None:
        raise ValueError("give one of --file=FILE (or --puzzles=FILE) and --generate=N")
    if values.limit is not None:
        raise ValueError("--limit is for --file, not for --generate")
    counts = [part.strip() for part in values.generate.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in counts):
        raise ValueError(f"--generate={values.generate}: not a number of {task.noun}s, or several")
    return task, task.held_out(values.seed, [int(part) for part in counts], check)


def define_flags(task: type[Task]) -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()

    def text(name: str, default: str | None, help: str) -> None:
        flags.DEFINE_string(name, default, help, flag_values=values)

    def number(name: str, default: int | None, help: str, least: int = 1) -> None:
        flags.DEFINE_integer(name, default, help, lower_bound=least, flag_values=values)

    text("checkpoint", None, "Folder of a checkpoint or an adapter, or a training run's workdir.")
    text("base", None, "Folder of an adapter's base; default: the folder that the adapter names.")
    text("tokenizer", None, "A tokenizer.json; default: the checkpoint's, else the repository's.")
    define_items(values, task)
    text("out", None, "Folder for the report. It is made if need be.")
    number("batch_size", 64, "Items that are denoised together.")
    number("canvases", 1, "Canvases that an answer may take.")
    text("budgets", "1,2,4,8,16,32,48", "Step budgets to compare; empty: none.")
    number("budget_items", 128, "Items that every step budget is tried on.")
    flags.DEFINE_alias("budget_puzzles", "budget_items", flag_values=values)
    number("replay", None, "Item to show step by step, from 0; default: a typical one.", 0)
    help = "Also run all steps, without early stopping."
    flags.DEFINE_bool("full_steps", True, help, flag_values=values)
    define_fields(values, SamplerConfig, SAMPLER_FLAGS)
    return values


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status, 2 for what the user can put right."""
    try:
        task = task_class(task_name(argv))
    except (ValueError, flags.Error) as error:
        return cli.fail(error)
    values = define_flags(task)
    return cli.run(values, lambda: _run(values, argv), argv, __doc__)


def _run(values: flags.FlagValues, argv: list[str]) -> None:
    if not values.checkpoint or not values.out:
        raise ValueError("--checkpoint=DIR and --out=DIR are needed")
    out = Path(values.out)
    folder = locate(Path(values.checkpoint))
    # A folder that is not there is named when it is loaded: what is wrong with flags comes first.
    home = companions(folder, values.base) if folder.is_dir() else folder
    sampler = SamplerConfig(**(sampler_defaults(home) | given_fields(values, SAMPLER_FLAGS)))
    budgets = _budgets(values.budgets)
    cli.check_out(out)
    compile_cache.enable()
    task, items = load_items(values, None)
    num = len(items)
    if values.replay is not None and values.replay >= num:
        raise ValueError(f"--replay={values.replay}: there are {task.noun}s 0..{num - 1}")
    model, tokenizer = load(folder, values.tokenizer, base=values.base)
    template = ChatTemplate.load(home, tokenizer)
    canvas_size = sampler.canvas_size or model.config.canvas_size
    sampler = dataclasses.replace(sampler, canvas_size=canvas_size)
    evaluation = Evaluation(
        model,
        template,
        task,
        items,
        canvases=values.canvases,
        seed=values.seed,
        batch_size=values.batch_size,
    )

    def run(title: str, rows: np.ndarray, **changes) -> Outcome:
        with tqdm(total=len(rows), desc=title, unit=task.noun) as bar:
            return evaluation.run(dataclasses.replace(sampler, **changes), rows, bar.update)

    every = np.arange(num)
    outcomes = {EARLY: run("early stopping", every)}
    if values.full_steps:
        outcomes[ALL] = run("all steps", every, early_stop=False)
    bins = task.bins(items)
    divided = next(iter(bins.values()), {f"all {task.noun}s": np.ones(num, bool)})
    some = np.unique(np.linspace(0, num - 1, min(num, values.budget_items)).round().astype(int))
    part = {name: rows[some] for name, rows in divided.items()}
    curve = []
    for steps in budgets:
        if steps == sampler.max_steps and ALL in outcomes:
            found = outcomes[ALL].take(some)
        else:
            found = run(f"{steps} steps", some, max_steps=steps, early_stop=False)
        curve.append({"steps": steps, **shares(found), "bins": by_bin(found, part)})
    early = outcomes[EARLY]
    shown = typical(early) if values.replay is None else values.replay
    replay = evaluation.replay(shown, sampler)
    picture = task.picture(items[shown], replay)

    measure = f"{task.noun}s {task.measures['exact']}"
    files = {
        "steps.png": plots.steps_histogram(
            early.steps.sum(axis=1), early.exact, sampler.max_steps * values.canvases, task.noun
        ),
        "answers.csv": _answers(task, items, outcomes),
    }
    if picture:
        files["replay.png"] = picture
    if curve:
        files["budget.png"] = plots.budget_plot(curve, by_bin(early.take(some), part), measure)
    columns = [task.columns(item) for item in items]
    results = {
        "command": shlex.join(["python", "-m", "train.evaluate", *argv[1:]]),
        "checkpoint": str(folder),
        "task": {
            "name": values.task,
            "title": task.title,
            "noun": task.noun,
            "measures": dict(task.measures),
            "notes": list(task.notes),
            "settings": dataclasses.asdict(task),
        },
        "items": values.file or "held out",
        "items_sha256": hashlib.sha256(repr(columns).encode()).hexdigest(),
        "count": num,
        "seed": values.seed,
        "batch_size": evaluation.batch_size,
        "sampler": dataclasses.asdict(sampler),
        "device": cli.device_line(),
        "modes": {mode: summarize(outcome, bins) for mode, outcome in outcomes.items()},
        "paired": paired(*outcomes.values()) if len(outcomes) == 2 else None,
        "budgets": curve,
        "replay": {"item": shown, "steps": len(replay.pieces)},
    }
    write_report(out, results, files)
    print(f"{headline(results)}\nwrote {out / 'REPORT.md'}")


def _budgets(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--budgets={text}: not numbers of steps such as 1,2,4,8")
    return sorted({int(part) for part in parts})


def _answers(task: Task, items: list[Any], outcomes: dict[str, Outcome]) -> bytes:
    """CSV: the task's columns, then answer, whether it is right (0 or 1) and steps in each mode."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    modes = [f"{field}_{mode}" for mode in outcomes for field in ("answer", "exact", "steps")]
    rows.writerow([*task.columns(items[0]), *modes])
    for i, item in enumerate(items):
        row = list(task.columns(item).values())
        for outcome in outcomes.values():
            row += [task.shown(outcome.answers[i]), int(outcome.exact[i])]
            row.append(int(outcome.steps[i].sum()))
        rows.writerow(row)
    return text.getvalue().encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
