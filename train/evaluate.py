"""Evaluates a checkpoint on a task: how many answers are right, in how many denoising steps.

    python -m train.evaluate --checkpoint=runs/sudoku --generate=256 --clues=40-50,30-39 --out=DIR
    python -m train.evaluate --checkpoint=runs/sudoku --puzzles=sudoku.csv --limit=512 --out=DIR
    python -m train.evaluate --checkpoint=runs/sudoku --generate=256 --starts=4 --out=DIR
    python -m train.evaluate --task=needle --longest=512 --checkpoint=runs/needle \\
        --generate=64 --out=DIR
    python -m train.evaluate --task=sudoku_fill --wrong=1-10 --checkpoint=runs/sudoku_fill \\
        --entropy_bound=5 --generate=512 --out=DIR
    python -m train.evaluate --checkpoint=runs/sudoku --generate=256 --out=DIR --page=DIR/page.html

The command writes REPORT.md with its images, results.json and answers.csv to --out. The page of
--page replays the denoising of a few items in a browser. Settings of the sampler come from flags,
else from the checkpoint's generation_config.json, else they are the published ones. The settings of
the task are flags too: --task=NAME --help lists them.
"""

import dataclasses
import functools
import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data.images.budgets import folder_budgets
from data.images.patches import USUAL_BUDGET
from data.tasks.registry import TASKS, make_task, task_class
from data.tasks.task import Check, Task
from files.printable import tell
from sample import cli, compile_cache
from sample.checkpoint import Checkpoint
from sample.config_flags import define_fields, given_fields
from sample.page.record import CANDIDATES
from sample.page.recorder import Recorder
from sample.page.write import check_page, write_and_say
from sample.step import SamplerConfig
from train.config import read_data
from train.evaluation import Evaluation
from train.report import HELD_OUT, headline, write_report
from train.results import EvaluationPlan, measure
from train.vision import room_for

PAGE_ITEMS = 3  # number of items that a page shows
SAMPLER_FLAGS = (
    "max_steps",
    "entropy_bound",
    "stop_threshold",
    "min_temperature",
    "max_temperature",
    "canvas_size",
    "starts",
    "restart_every",
)


def define_task(values: flags.FlagValues) -> None:
    """Defines the flag --task."""
    help = (
        f"Name of the task: {', '.join(TASKS)}, or MODULE:CLASS. Default: the task of the training "
        "run whose workdir --checkpoint is, with the run's settings; else sudoku."
    )
    flags.DEFINE_string("task", None, help, flag_values=values)


def define_checkpoint(values: flags.FlagValues) -> None:
    help = "Folder of a checkpoint or an adapter, or a training run's workdir."
    flags.DEFINE_string("checkpoint", None, help, flag_values=values)


def task_and_settings(values: flags.FlagValues) -> tuple[str, dict[str, Any]]:
    """The name of the task, and the settings that the run in --checkpoint had for it."""
    run = read_data(Path(values.checkpoint)) if values.checkpoint else None
    if run is None:
        return values.task or "sudoku", {}
    if values.task in (None, run.name):
        return run.name, dataclasses.asdict(run.task)
    return values.task, {}


def named_task(argv: Sequence[str]) -> type[Task]:
    """The class of the task that a command line names.

    The settings of the task are flags, so the task must be known before all flags are defined.

    Raises:
      TaskError: there is no such task.
      flags.Error: --task has no value.
    """
    values = flags.FlagValues()
    define_task(values)
    define_checkpoint(values)
    values(argv, known_only=True)
    return task_class(task_and_settings(values)[0])


def define_items(values: flags.FlagValues, task: type[Task]) -> None:
    """Defines the flags that load_items reads: they say which items of a task are asked."""
    define_task(values)
    for name, help in {
        "file": "File with the items to ask. The sudoku task reads tables and JSON records with "
        "puzzles, files with a puzzle in each line, and drawn grids; a solver finds the solutions "
        "that a file lacks. The conversations task reads JSON records. docs/FORMATS.md lists all.",
        "generate": "Number of held-out items to ask. With several ranges of --clues, give one "
        "number for each range, such as 256,64, or one number for all.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    flags.DEFINE_alias("puzzles", "file", flag_values=values)
    help = "Number of items to take from the start of the file; default: all."
    flags.DEFINE_integer("limit", None, help, lower_bound=1, flag_values=values)
    cli.define_seed(values, 0, "Random seed of generated items and of the sampler's noise.")
    define_fields(values, task, [field.name for field in dataclasses.fields(task)])


def load_items(values: flags.FlagValues, check: Check) -> tuple[Task, list[Any]]:
    """Makes the task and its items as the flags say.

    Args:
      values: the parsed flags.
      check: is called with each conversation of a file, and raises ValueError for one that cannot
        be used.

    Returns:
      (task, items).

    Raises:
      ValueError: flags do not fit together, or the items cannot be used.
      OSError: the file cannot be read.
    """
    name, settings = task_and_settings(values)
    task = make_task(name, _settings(values, task_class(name), settings), "--")
    if (values.file is None) == (values.generate is None):
        raise ValueError("give one of --file=FILE (--puzzles=FILE is the same) and --generate=N")
    if values.file == "":
        raise ValueError("--file= is empty: give the path of a file")
    if values["puzzles"].present and task.noun != "puzzle":
        raise ValueError(
            f"--puzzles is for puzzles, and the task is {name}: give --task=sudoku, or --file=FILE"
        )
    if values.file is not None:
        return task, task.read(values.file, values.limit, check)
    if values.limit is not None:
        raise ValueError("--limit is for --file: with --generate=N, N is the number of items")
    counts = [part.strip() for part in values.generate.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in counts):
        raise ValueError(
            f"--generate={values.generate}: give a number of {task.noun}s such as 256, or several "
            "such as 256,64"
        )
    return task, task.held_out(values.seed, [int(part) for part in counts], check)


def _settings(values: flags.FlagValues, task: type[Task], of_run: dict[str, Any]) -> dict[str, Any]:
    """The settings of the task: those of flags, and those of a run that fit them.

    Raises:
      ValueError: the flags name a file and say also how items are generated.
    """
    given = given_fields(values, [field.name for field in dataclasses.fields(task)])
    flags_given = ", ".join(f"--{name}" for name in task.generated if name in given)
    if flags_given and (values.file is not None or given.get("path")):
        raise ValueError(
            f"{flags_given}: {task.noun}s of a file are taken as they are: leave this out"
        )
    path = given.get("path", of_run.get("path"))
    if flags_given and path:
        tell(f"{flags_given}: the run's file {path} is not used")
    if flags_given or values.file is not None:
        of_run = {name: value for name, value in of_run.items() if name != "path"}
    if values.file is not None or (path and not flags_given):
        of_run = {name: value for name, value in of_run.items() if name not in task.generated}
    return of_run | given


def define_flags(task: type[Task]) -> flags.FlagValues:
    """The command's flags, those of the task included, in a FlagValues of their own."""
    values = flags.FlagValues()

    def text(name: str, default: str | None, help: str) -> None:
        flags.DEFINE_string(name, default, help, flag_values=values)

    def number(name: str, default: int | None, help: str, least: int = 1) -> None:
        flags.DEFINE_integer(name, default, help, lower_bound=least, flag_values=values)

    define_checkpoint(values)
    text("base", None, "Folder of the adapter's base; default: the folder that the adapter names.")
    text("tokenizer", None, "A tokenizer.json; default: the checkpoint's, else the repository's.")
    define_items(values, task)
    text("out", None, "Folder for the report. It is made if it does not exist.")
    number("batch_size", 64, "Number of items that are denoised together.")
    help = (
        "Largest number of soft tokens of an image; default: what the checkpoint's "
        f"processor_config.json says, else {USUAL_BUDGET}."
    )
    number("image_tokens", None, help)
    number("canvases", 1, "Number of canvases that an answer may take.")
    help = "Numbers of denoising steps of one start to compare; empty: none."
    text("budgets", "1,2,4,8,16,32,48", help)
    number("budget_items", 128, "Number of items that are asked with each number of steps.")
    flags.DEFINE_alias("budget_puzzles", "budget_items", flag_values=values)
    number(
        "replay",
        None,
        "Number of the item to show step by step, from 0; default: a typical one.",
        0,
    )
    help = "Whether to answer all items also with all steps, without early stopping."
    flags.DEFINE_bool("full_steps", True, help, flag_values=values)
    help = "Whether the same weights answer all items also left to right, token by token."
    flags.DEFINE_bool("left_to_right", False, help, flag_values=values)
    help = (
        "FILE.html that shows every denoising step of a few items, for a browser: the item of "
        "--replay, or a typical one, and the first ones. With --left_to_right it shows both modes."
    )
    text("page", None, help)
    define_fields(values, SamplerConfig, SAMPLER_FLAGS)
    cli.define_jit(values)
    return values


def main(argv: list[str]) -> int:
    """Runs the command. Returns its exit status: 0, or 2 for an error that the user can correct."""
    try:
        values = define_flags(named_task(argv))
    except (ValueError, flags.Error) as error:
        return cli.fail(error)
    return cli.run(values, lambda: _run(values, argv), argv, __doc__)


def _run(values: flags.FlagValues, argv: list[str]) -> None:
    """Evaluates as the flags say, and writes the report."""
    if not values.checkpoint or not values.out:
        raise ValueError("--checkpoint=DIR and --out=DIR are needed")
    out, given = Path(values.out), given_fields(values, SAMPLER_FLAGS)
    budgets = _budgets(values.budgets)
    plan = EvaluationPlan(
        values.full_steps, budgets, values.budget_items, values.replay, values.left_to_right
    )
    cli.check_out(out)
    if values.page is not None:
        _check_page(values.page, out)
    compile_cache.enable()
    # The checkpoint is opened when a line of a file must be checked. Until then, wrong flags are
    # reported before anything is read.
    opened = functools.cache(
        lambda: Checkpoint.open(values.checkpoint, values.base, values.tokenizer)
    )
    task, items = load_items(values, lambda c: opened().template.example(*c))
    if values.replay is not None and values.replay >= len(items):
        last = len(items) - 1
        raise ValueError(f"--replay={values.replay}: choose one of the {task.noun}s 0..{last}")
    checkpoint = opened()
    sampler = SamplerConfig(**(checkpoint.sampler_defaults | given))
    size = sampler.canvas_size or checkpoint.config.canvas_size
    sampler = dataclasses.replace(sampler, canvas_size=size)
    of_image, of_frame = folder_budgets(checkpoint.companions)
    budgets = values.image_tokens or of_image, of_frame
    evaluation = Evaluation(
        checkpoint.load(),
        checkpoint.template,
        task,
        items,
        canvases=values.canvases,
        seed=values.seed,
        batch_size=values.batch_size,
        images=lambda: room_for(checkpoint.config, budgets, checkpoint.tokenizer),
        candidates=CANDIDATES if values.page else 0,
    )
    results, files = measure(evaluation, sampler, plan)
    results |= {
        "command": shlex.join(["python", "-m", "train.evaluate", *argv[1:]]),
        "checkpoint": str(checkpoint.folder),
        "items": values.file or HELD_OUT,
        "device": cli.device_line(),
    }
    write_report(out, results, files)
    print(f"{headline(results)}\nwrote {out / 'REPORT.md'}")
    if values.page:
        shown = dict.fromkeys([results["replay"]["item"], *range(len(items))])
        recorder = Recorder(checkpoint.tokenizer, model=str(checkpoint.folder))
        for row in itertools.islice(shown, PAGE_ITEMS):
            evaluation.record(recorder, row, sampler, values.left_to_right)
        print(write_and_say(Path(values.page), recorder.records()))


def _check_page(page: str, out: Path) -> None:
    """Raises ValueError or OSError if a page cannot be written beside the report in `out`."""
    path = Path(page).absolute()
    if not page or path == out.absolute():
        raise ValueError(f"--page={page}: give the name of a file")
    if path.parent != out.absolute():  # that folder is made at the end
        check_page(path)


def _budgets(text: str) -> tuple[int, ...]:
    """The numbers of steps that --budgets names, ascending and each once; raises ValueError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--budgets={text}: give numbers of steps such as 1,2,4,8")
    return tuple(sorted({int(part) for part in parts}))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
