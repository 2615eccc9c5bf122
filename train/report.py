"""The reports: one evaluation's, and the one of a model before and after fine-tuning.

    python -m train.report --base=DIR --tuned=DIR --workdir=DIR --out=DIR

--base and --tuned are outputs of train.evaluate, --workdir is the training run between them.
"""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from data.metrics import wilson
from diffusiongemma.formats.atomic_folder import write_files
from sample.cli import check_out, run
from train import plots

RESULTS, REPORT, ANSWERS = "results.json", "REPORT.md", "answers.csv"
EARLY, ALL = "early_stop", "all_steps"
MODES = {EARLY: "early stopping", ALL: "all steps"}
MEASURES = {
    "exact": "solved exactly",
    "valid": "valid grids",
    "clues_kept": "all clues kept",
    "cells_right": "empty cells right",
}
IMAGES = {  # in the order of the report
    "before_after.png": "Before and after",
    "training.png": "The training run: the loss, and puzzles held out of it",
    "budget.png": "Accuracy against the number of steps",
    "steps.png": "Steps that puzzles took with early stopping",
    "replay.png": "One puzzle, denoised step by step",
}
NOTE = """\
- Solved exactly: the answer is the puzzle's one solution. Valid: no row, column or box repeats a
  digit, whatever the clues. Empty cells right: the mean over puzzles; an answer that is no grid has
  none right.
- In brackets: 95 % Wilson intervals over puzzles (for cells, wider than need be).
- Effective denoising steps and tokens per forward are those of the technical report (arXiv
  2608.00146), over all puzzles; every puzzle takes one canvas.
- Both modes answer the same puzzles with the same noise. Seconds are a puzzle's share of its batch,
  without compilation."""
PUBLISHED = (
    "For orientation, published of the 26B-A4B model with LoRA of rank 8, on other puzzles (arXiv "
    "2608.00146): 0.00 % before, 84.40 % after; effective denoising steps 40.65 and 10.72."
)


def write_report(out: Path, results: dict[str, Any], files: dict[str, bytes]) -> None:
    """Writes results.json, REPORT.md and `files`; the report shows those named in IMAGES.

    Args:
      out: a folder, made if need be.
      results: as train/evaluate.py makes them: {"command", "checkpoint", "puzzles", "count",
        "box", "seed", "batch_size", "sampler", "device", "modes": {mode: summarize()}, "paired":
        paired() or None, "budgets": [{"steps", **shares(), "by_clues"}]}.
      files: name -> contents.

    Raises:
      OSError: as write_files.
    """
    modes = {MODES[mode]: summary for mode, summary in results["modes"].items()}
    text = ["# Sudoku evaluation", headline(results), _overall(modes), _paired(results)]
    text += _bins(modes)
    if results["budgets"]:
        text += ["## Step budgets", _budgets(results["budgets"])]
    text += [*_images(files), "## How it was measured", _setting(results), NOTE]
    contents = {RESULTS: (json.dumps(results, indent=2) + "\n").encode(), **files}
    write_files(out, {**contents, REPORT: _join(text)})


def comparison_report(
    out: Path, base: dict[str, Any], tuned: dict[str, Any], training: dict[str, Any]
) -> None:
    """Writes REPORT.md and its images on a model before and after fine-tuning.

    The headline is of the puzzles that both evaluations answered, the tables of each one's own.

    Args:
      out: a folder, made if need be.
      base, tuned: from read_evaluation; the images of `tuned` are shown too.
      training: from read_training.

    Raises:
      ValueError: the evaluations have no puzzle in common.
      OSError: as write_files.
    """
    both = [puzzle for puzzle in base["solved"] if puzzle in tuned["solved"]]
    if not both:
        raise ValueError("the two evaluations have no puzzle in common: give both the same --seed")
    before, after = (_share(sum(r["solved"][p] for p in both), len(both)) for r in (base, tuned))
    modes = {"base": base["modes"][EARLY]}
    modes |= {f"tuned, {MODES[mode]}": summary for mode, summary in tuned["modes"].items()}
    text = [
        "# Fine-tuning on Sudoku: before and after",
        f"Of the {len(both)} puzzles that both answered, the base model solves "
        f"**{_percent(before)}**, the tuned one **{_percent(after)}**.",
        _overall(modes),
    ]
    if not len(both) == base["count"] == tuned["count"]:
        text.append("The columns are not of the same puzzles; by clues they compare better.")
    text += [_paired(tuned), *_bins(modes)]
    groups = list(_union(modes, "by_clues"))
    found = {
        name: [mode["by_clues"].get(group, {}).get("exact") for group in groups]
        for name, mode in modes.items()
    }
    images = {"before_after.png": plots.before_after(groups, found)}
    if training["losses"]:
        images["training.png"] = plots.training_curve(training["losses"], training["evals"])
    images |= tuned["images"]
    text += [*_images(images), "## The training", _training(training), "## How it was measured"]
    text += ["The base model:", _setting(base), "The tuned model:", _setting(tuned)]
    text += [NOTE, PUBLISHED]
    write_files(out, {**images, REPORT: _join(text)})


def headline(results: dict[str, Any]) -> str:
    """One sentence: how many puzzles were solved, in how many steps."""
    mode = results["modes"][EARLY]
    return (
        f"Of {results['count']} puzzles {_percent(mode['exact'])} are solved exactly, in "
        f"{mode['steps']['effective']:.1f} effective denoising steps."
    )


def read_evaluation(folder: Path) -> dict[str, Any]:
    """An evaluation's results, "images" {name: PNG} and "solved" {puzzle: bool, early stopping}.

    Raises ValueError if they are no such results, OSError if they cannot be read.
    """
    text, answers = (folder / RESULTS).read_text(), (folder / ANSWERS).read_text()
    try:
        results = json.loads(text)
        missing = {"modes", "paired", "count", "sampler", "device"}.difference(results)
        if missing:
            raise ValueError(f"{RESULTS} lacks {', '.join(sorted(missing))}")
        rows = csv.DictReader(io.StringIO(answers))
        solved = {row["puzzle"]: row["solution"] == row[f"answer_{EARLY}"] for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder} holds no evaluation: {error}") from None
    images = {name: (folder / name).read_bytes() for name in IMAGES if (folder / name).exists()}
    return {**results, "images": images, "solved": solved}


def read_training(workdir: Path) -> dict[str, Any]:
    """{"losses", "evals": lines of a run's metrics.jsonl, "config": its config.json}.

    Raises ValueError if they are damaged, OSError if they cannot be read.
    """
    text, config = (workdir / "metrics.jsonl").read_text(), (workdir / "config.json").read_text()
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        losses = [row for row in rows if "loss" in row]
        evals = [row for row in rows if "eval/exact" in row]
        return {"losses": losses, "evals": evals, "config": json.loads(config)}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{workdir} is no training run: {error}") from None


def _overall(modes: dict[str, Any]) -> str:
    forms = {"puzzles": lambda m: str(m["count"])}
    forms |= {name: lambda m, key=key: _percent(m[key]) for key, name in MEASURES.items()}
    forms |= {
        "denoising steps, mean": lambda m: f"{m['steps']['mean']:.2f}",
        "denoising steps, quartiles": lambda m: " / ".join(
            f"{q:g}" for q in m["steps"]["quartiles"]
        ),
        "effective denoising steps": lambda m: f"{m['steps']['effective']:.2f}",
        "tokens per forward": lambda m: f"{m['tokens_per_forward']:.2f}",
        "seconds a puzzle": lambda m: f"{m['seconds_per_puzzle']:.3g}",
        "seconds of compilation": lambda m: f"{m['compile_seconds']:.3g}",
    }
    rows = [[name, *(form(mode) for mode in modes.values())] for name, form in forms.items()]
    return _table(["", *modes], rows)


def _bins(modes: dict[str, Any]) -> list[str]:
    text = []
    for title, key in (("clues", "by_clues"), ("difficulty for people", "by_difficulty")):
        rows = []
        for name in _union(modes, key):
            for label, mode in modes.items():
                if name in mode[key]:
                    part = mode[key][name]
                    shares = [_percent(part[measure]) for measure in MEASURES]
                    rows.append([name, label, part["count"], *shares, f"{part['mean_steps']:.1f}"])
        header = ["", "", "puzzles", *MEASURES.values(), "mean steps"]
        text += [f"## By {title}", _table(header, rows)]
    return text


def _union(modes: dict[str, Any], key: str) -> dict[str, None]:
    """Names of the bins of any mode. The last mode's come first: it has the most puzzles."""
    return {name: None for mode in reversed(modes.values()) for name in mode[key]}


def _budgets(budgets: list[dict[str, Any]]) -> str:
    bins = {name: part["count"] for name, part in budgets[0]["by_clues"].items()}
    header = ["steps", *(f"{name} ({count} puzzles)" for name, count in bins.items())]
    rows = [[b["steps"], *(_percent(b["by_clues"][n]["exact"]) for n in bins)] for b in budgets]
    return f"Solved exactly, each puzzle taking all steps.\n\n{_table(header, rows)}"


def _paired(results: dict[str, Any]) -> str:
    pairs = results["paired"]
    if not pairs:
        return ""
    return (
        f"With and without early stopping, {pairs['same_answer']} of {results['count']} answers "
        f"are the same; {pairs['both']} puzzles are solved by both, {pairs['only_early_stop']} "
        f"only with early stopping, {pairs['only_all_steps']} only without, {pairs['neither']} by "
        "neither."
    )


def _training(training: dict[str, Any]) -> str:
    config, losses, evals = training["config"], training["losses"], training["evals"]
    lines = [
        f"- {config.get('steps')} steps of {config.get('batch_size')} examples, seed "
        f"{config.get('seed')}, from `{config.get('init') or config.get('preset')}`"
    ]
    if losses:
        last = losses[-1]
        minutes = f" after {last['seconds'] / 60:.1f} minutes" if "seconds" in last else ""
        lines.append(f"- loss {last['loss']:.4f} at step {last['step']}{minutes}")
    if evals:
        last = evals[-1]
        lines.append(f"- {100 * last['eval/exact']:.1f} % of held-out answers exact at the end")
    return "\n".join(lines)


def _setting(results: dict[str, Any]) -> str:
    sampler = ", ".join(f"{k} {v}" for k, v in results["sampler"].items() if v is not None)
    return (
        f"- `{results['command']}`\n- checkpoint `{results['checkpoint']}`; {results['count']} "
        f"puzzles, {results['puzzles']}; seed {results['seed']}; batches of "
        f"{results['batch_size']}\n- sampler: {sampler}\n- {results['device']}"
    )


def _share(total: int, count: int) -> dict[str, float]:
    low, high = wilson(total, count)
    return {"rate": total / count, "low": low, "high": high}


def _percent(share: dict[str, float]) -> str:
    rate, low, high = (100 * share[k] for k in ("rate", "low", "high"))
    return f"{rate:.1f} % [{low:.1f}, {high:.1f}]"


def _table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _images(files: dict[str, bytes]) -> list[str]:
    return [
        part
        for name, title in IMAGES.items()
        if name in files
        for part in (f"## {title}", f"![{title}]({name})")
    ]


def _join(parts: list[str]) -> bytes:
    return ("\n\n".join(part for part in parts if part) + "\n").encode()


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status, 2 for what the user can put right."""
    values = flags.FlagValues()
    for name, help in {
        "base": "Output of train.evaluate on the model before training.",
        "tuned": "Output of train.evaluate on the model after it.",
        "workdir": "The training run.",
        "out": "Folder for the report, made if need be.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)

    def compare() -> None:
        folders = [values[name].value for name in ("base", "tuned", "workdir", "out")]
        if not all(folders):
            raise ValueError("--base=DIR, --tuned=DIR, --workdir=DIR and --out=DIR are needed")
        base, tuned, workdir, out = map(Path, folders)
        check_out(out)
        training = read_training(workdir)
        comparison_report(out, read_evaluation(base), read_evaluation(tuned), training)
        print(f"wrote {out / REPORT}")

    return run(values, compare, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
