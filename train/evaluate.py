"""Evaluates a checkpoint on Sudoku, on generated puzzles or those of a file:

    python -m train.evaluate --checkpoint=runs/sudoku --generate=256 --clues=40-50,30-39 --out=DIR
    python -m train.evaluate --checkpoint=runs/sudoku --puzzles=sudoku.csv --limit=512 --out=DIR

Writes REPORT.md with its images, results.json and answers.csv to --out. The sampler's settings are
those of the checkpoint's generation_config.json, or the published ones; flags win.
"""

import dataclasses
import functools
import hashlib
import itertools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from data.metrics import sudoku_metrics
from data.sudoku.grids import SudokuSource, parse, read_csv
from data.text.chat_template import ChatTemplate
from diffusiongemma import DiffusionGemma
from sample import cli, compile_cache
from sample.checkpoint import Checkpoint
from sample.config_flags import define_fields, given_fields
from sample.sampler import generate
from sample.split_model import SplitModel
from sample.step import SamplerConfig
from sample.timing import Clock
from train import plots
from train.outcome import Outcome, by_clues, paired, shares, summarize
from train.replay import encode_prompts, replay, typical
from train.replay_plot import replay_strip
from train.report import ALL, EARLY, headline, write_report

DEFAULT_CLUES = {3: "40-50", 2: "8-10"}
SAMPLER_FLAGS = (
    "max_steps",
    "entropy_bound",
    "stop_threshold",
    "min_temperature",
    "max_temperature",
    "canvas_size",
)


def evaluate(
    model: DiffusionGemma,
    template: ChatTemplate,
    puzzles: np.ndarray,
    solutions: np.ndarray,
    box: int,
    sampler: SamplerConfig,
    seed: int,
    batch_size: int,
    progress: Callable[[int], Any] | None = None,
) -> Outcome:
    """Answers puzzles with the sampler, one canvas each, and scores the answers.

    A puzzle's noise depends on the seed and its own text only, not on its batch.

    Args:
      model: whose vocabulary covers that of the template's tokenizer.
      puzzles, solutions: [N, n*n] int8 with N >= 1, 0 for an empty cell.
      box: 3 for 9x9, 2 for 4x4.
      sampler: max_new_tokens and trajectory are not used.
      batch_size: puzzles denoised together; the last batch is filled up with repeats.
      progress: called with the number of puzzles that a batch has done.

    Raises:
      ValueError: the model's vocabulary, canvas or context is too small, or no puzzles.
    """
    sampler = dataclasses.replace(sampler, max_new_tokens=None, trajectory=False)
    tokens, mask = encode_prompts(model, template, puzzles, sampler)
    split = SplitModel(model)
    num, size = len(puzzles), min(batch_size, len(puzzles))
    predictions = np.full(puzzles.shape, -1, np.int8)
    counts = {name: np.zeros(num, np.int32) for name in ("steps", "valid_tokens")}
    seconds, compiling = np.zeros(num), 0.0
    for at in range(0, num, size):
        rows = np.arange(at, at + size) % num
        with Clock() as clock:
            out = generate(split, tokens[rows], mask[rows], jax.random.key(seed), sampler)
            clock.lap("generate")
        compiling += clock.compile_seconds
        real = rows[: num - at]
        seconds[real] = clock.seconds["generate"] / size
        for name, values in counts.items():
            values[real] = getattr(out, name)[: len(real), 0]
        for i, row in enumerate(real):
            grid = parse(template.tokenizer.decode(out.tokens[i]), box)
            predictions[row] = -1 if grid is None else grid
        if progress:
            progress(len(real))
    scores = sudoku_metrics(puzzles, solutions, predictions)
    del scores["cells_right_all"]
    return Outcome(predictions, **scores, **counts, seconds=seconds, compile_seconds=compiling)


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()

    def text(name: str, default: str | None, help: str) -> None:
        flags.DEFINE_string(name, default, help, flag_values=values)

    def number(name: str, default: int | None, help: str, least: int = 1) -> None:
        flags.DEFINE_integer(name, default, help, lower_bound=least, flag_values=values)

    text("checkpoint", None, "Folder of a checkpoint or an adapter, or a training run's workdir.")
    text("base", None, "Of an adapter; default: the folder that it names.")
    text("tokenizer", None, "A tokenizer.json; default: the checkpoint's, else the repository's.")
    define_puzzles(values)
    text("out", None, "Folder for the report, made if need be.")
    number("batch_size", 64, "Puzzles denoised together.")
    text("budgets", "1,2,4,8,16,32,48", "Step budgets to compare; empty: none.")
    number("budget_puzzles", 128, "Puzzles for every step budget.")
    number("replay", None, "Which puzzle to show step by step, from 0; default: a typical one.", 0)
    flags.DEFINE_bool(
        "full_steps", True, "Run all steps without early stopping too.", flag_values=values
    )
    define_fields(values, SamplerConfig, SAMPLER_FLAGS)
    cli.define_jit(values)
    return values


def define_puzzles(values: flags.FlagValues) -> None:
    """The flags of load_puzzles."""
    texts = {
        "puzzles": "CSV file with the columns puzzle and solution.",
        "clues": "Ranges of clues, as 40-50,30-39; default: 40-50, for 4x4 8-10.",
        "generate": "Generate so many held-out puzzles: for every range of --clues, or as 256,64 "
        "for the first, the second.",
    }
    for name, help in texts.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    for name, default, least, help in (
        ("limit", None, 1, "Take only the first so many puzzles of the file."),
        ("seed", 0, 0, "Of the puzzles and of the sampler's noise."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=least, flag_values=values)
    flags.DEFINE_enum("box", "3", ["2", "3"], "3 for 9x9, 2 for 4x4.", flag_values=values)


def load_puzzles(values: flags.FlagValues, box: int) -> tuple[np.ndarray, np.ndarray]:
    """(puzzles, solutions), int8 [N, n*n], as the flags tell; raises ValueError."""
    if (values.puzzles is None) == (values.generate is None):
        raise ValueError("give one of --puzzles=FILE.csv and --generate=N")
    if values.puzzles is not None:
        if values.clues is not None:
            raise ValueError("--clues is for --generate, not for --puzzles")
        return read_csv(values.puzzles, box, limit=values.limit)
    if values.limit is not None:
        raise ValueError("--limit is for --puzzles, not for --generate")
    ranges = []
    for part in (values.clues or DEFAULT_CLUES[box]).split(","):
        ends = part.strip().split("-")
        if len(ends) > 2 or not all(end.isdecimal() for end in ends):
            raise ValueError(f"--clues={values.clues}: '{part}' is not a range such as 30-39")
        ranges.append((int(ends[0]), int(ends[-1])))
    counts = [part.strip() for part in values.generate.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in counts):
        raise ValueError(f"--generate={values.generate}: not a number of puzzles, or several")
    if len(counts) not in (1, len(ranges)):
        raise ValueError(f"--generate={values.generate}: there are {len(ranges)} ranges of --clues")
    counts = [int(part) for part in counts] * (len(ranges) // len(counts))
    # Ranges take different items, lest they share solutions.
    ends = list(itertools.accumulate(counts))
    sources = [SudokuSource(values.seed, ends[-1], box, r, "test") for r in ranges]
    parts = zip(sources, counts, ends, strict=True)
    items = [source[i] for source, count, end in parts for i in range(end - count, end)]
    return tuple(np.stack([item[name] for item in items]) for name in ("puzzle", "solution"))


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status, 2 for what the user can put right."""
    values = define_flags()
    return cli.run(values, lambda: _run(values, argv), argv, __doc__)


def _run(values: flags.FlagValues, argv: list[str]) -> None:
    if not values.checkpoint or not values.out:
        raise ValueError("--checkpoint=DIR and --out=DIR are needed")
    out, box, seed = Path(values.out), int(values.box), values.seed
    named, checkpoint, defaults = (values.checkpoint, values.base, values.tokenizer), None, {}
    if Path(values.checkpoint).is_dir():  # a missing folder is named after what is wrong with flags
        checkpoint = Checkpoint.open(*named)
        defaults = checkpoint.sampler_defaults
    sampler = SamplerConfig(**(defaults | given_fields(values, SAMPLER_FLAGS)))
    budgets = _budgets(values.budgets)
    cli.check_out(out)
    compile_cache.enable()
    puzzles, solutions = load_puzzles(values, box)
    num = len(puzzles)
    if values.replay is not None and values.replay >= num:
        raise ValueError(f"--replay={values.replay}: there are puzzles 0..{num - 1}")
    checkpoint = checkpoint or Checkpoint.open(*named)
    model, template = checkpoint.load(), checkpoint.template
    canvas_size = sampler.canvas_size or model.config.canvas_size
    sampler = dataclasses.replace(sampler, canvas_size=canvas_size)

    def run(title: str, rows: np.ndarray, **changes) -> Outcome:
        data, config = (
            (puzzles[rows], solutions[rows], box),
            dataclasses.replace(sampler, **changes),
        )
        with tqdm(total=len(rows), desc=title, unit="puzzle") as bar:
            return evaluate(model, template, *data, config, seed, values.batch_size, bar.update)

    every = np.arange(num)
    outcomes = {EARLY: run("early stopping", every)}
    if values.full_steps:
        outcomes[ALL] = run("all steps", every, early_stop=False)
    some = np.unique(np.linspace(0, num - 1, min(num, values.budget_puzzles)).round().astype(int))
    split = functools.partial(by_clues, puzzles=puzzles[some], box=box)
    curve = []
    for steps in budgets:
        if steps == sampler.max_steps and ALL in outcomes:
            part = outcomes[ALL].take(some)
        else:
            part = run(f"{steps} steps", some, max_steps=steps, early_stop=False)
        curve.append({"steps": steps, **shares(part), "by_clues": split(part)})
    early = outcomes[EARLY]
    shown = typical(early) if values.replay is None else values.replay
    record = replay(model, template, puzzles[shown], sampler, seed)

    limit = sampler.max_steps
    files = {
        "steps.png": plots.steps_histogram(early.steps, early.exact, limit),
        "replay.png": replay_strip(puzzles[shown], solutions[shown], **record, limit=limit),
        "answers.csv": _answers(puzzles, solutions, outcomes),
    }
    if curve:
        files["budget.png"] = plots.budget_plot(curve, split(early.take(some)))
    results = {
        "command": shlex.join(["python", "-m", "train.evaluate", *argv[1:]]),
        "checkpoint": str(checkpoint.folder),
        "puzzles": values.puzzles or f"generated with {values.clues or DEFAULT_CLUES[box]} clues",
        "puzzles_sha256": hashlib.sha256(np.stack([puzzles, solutions]).tobytes()).hexdigest(),
        "count": num,
        "box": box,
        "seed": seed,
        "batch_size": min(values.batch_size, num),
        "sampler": dataclasses.asdict(sampler),
        "device": cli.device_line(),
        "modes": {mode: summarize(o, puzzles, box) for mode, o in outcomes.items()},
        "paired": paired(*outcomes.values()) if len(outcomes) == 2 else None,
        "budgets": curve,
        "replay": {"puzzle": shown, "steps": len(record["digits"])},
    }
    write_report(out, results, files)
    print(f"{headline(results)}\nwrote {out / 'REPORT.md'}")


def _budgets(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--budgets={text}: not numbers of steps such as 1,2,4,8")
    return sorted({int(part) for part in parts})


def _answers(puzzles: np.ndarray, solutions: np.ndarray, outcomes: dict[str, Outcome]) -> bytes:
    """CSV: puzzle, solution, then answer (empty if it is no grid) and steps in each mode."""
    header = ["puzzle", "solution", *(f"{f}_{m}" for m in outcomes for f in ("answer", "steps"))]
    lines = [",".join(header)]
    for i, grids in enumerate(zip(puzzles, solutions, strict=True)):
        row = ["".join(map(str, grid)) for grid in grids]
        for outcome in outcomes.values():
            answer = outcome.predictions[i]
            row += ["".join(map(str, answer)) if answer[0] >= 0 else "", str(outcome.steps[i])]
        lines.append(",".join(row))
    return ("\n".join(lines) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
