"""Writes two reports: on one evaluation, and on a model before and after fine-tuning.

    python -m train.report --base=DIR --tuned=DIR --workdir=DIR --out=DIR

--base and --tuned are output folders of train.evaluate. --workdir is the folder of the training run
between them. The title, the noun, the measures and the notes of the task are read from the results.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from absl import flags

from data.measures import wilson
from files.whole_file import write_files
from sample.cli import check_out, run
from train import plots
from train.evaluation_files import (
    ALL,
    EARLY,
    IMAGES,
    LEFT_TO_RIGHT,
    RESULTS,
    read_evaluation,
    read_training,
)
from train.markdown import document, percent, shell, table
from train.starts import starts_section

REPORT = "REPORT.md"
HELD_OUT = "held out"
MODES = {EARLY: "early stopping", ALL: "all steps", LEFT_TO_RIGHT: "left to right"}
NOTES = (
    "Brackets hold 95 % Wilson intervals over {noun}s. For means of shares they are wider than "
    "necessary.",
    "Effective denoising steps and tokens per forward are defined in the technical report (arXiv "
    "2608.00146). They are taken over all {noun}s.",
    "Every mode answers the same {noun}s with the same noise. Seconds are those of a batch divided "
    "by its {noun}s, without compilation.",
)
LEFT_TO_RIGHT_NOTE = (
    "Left to right, the most probable token is always taken. Each token is a step, and kept tokens "
    "are steps too."
)


def write_report(out: Path, results: dict[str, Any], files: dict[str, bytes]) -> None:
    """Writes the report on one evaluation: REPORT.md, results.json and other files.

    Args:
      out: the folder. It is made if it does not exist.
      results: the evaluation's results, which become results.json:
        command: the command line.
        checkpoint: the path of the checkpoint.
        task: {"name", "title", "noun", "measures", "published", "notes", "settings"} of the task.
        items: where the items are from: HELD_OUT, or the path of a file.
        count: the number of items.
        seed, batch_size, sampler, device: how they were answered.
        modes: {mode: summarize()}, with the mode EARLY, and ALL and LEFT_TO_RIGHT if they were run.
        paired: paired(), or None if ALL was not run.
        budgets: [{"steps", fields of shares(), "bins": {name: shares()}}], a dict for each number
          of steps, which one start took.
      files: name -> contents of the other files. The report shows the images that IMAGES names.

    Raises:
      OSError: a file cannot be written.
    """
    modes, task = {MODES[m]: summary for m, summary in results["modes"].items()}, results["task"]
    text = [f"# Evaluation: {task['title']}", headline(results), _overall(modes, task)]
    text += [_paired(results), *starts_section(modes, task), *_bins(modes, task)]
    if results["budgets"]:
        text += ["## Step budgets", _budgets(results, task)]
    text += [*_images(files, task), "## How it was measured", _setting(results)]
    text.append(_notes(task, results["modes"]))
    contents = {RESULTS: (json.dumps(results, indent=2) + "\n").encode(), **files}
    write_files(out, {**contents, REPORT: document(text)})


def comparison_report(
    out: Path, base: dict[str, Any], tuned: dict[str, Any], training: dict[str, Any]
) -> None:
    """Writes the report on a model before and after fine-tuning: REPORT.md and its images.

    The headline counts the items that were asked in both evaluations. A column of a table counts
    all items of its evaluation.

    Args:
      out: the folder. It is made if it does not exist.
      base: the evaluation before, from read_evaluation.
      tuned: the evaluation after, from read_evaluation. The report shows its images, too.
      training: the training run, from read_training.

    Raises:
      ValueError: the evaluations are of different tasks, or have no item in common.
      OSError: a file cannot be written.
    """
    task, noun = tuned["task"], tuned["task"]["noun"]
    both = [item for item in base["solved"] if item in tuned["solved"]]
    if base["task"]["name"] != task["name"]:
        raise ValueError(f"the evaluations are of {base['task']['name']} and of {task['name']}")
    if not both:
        raise ValueError(f"the two evaluations have no {noun} in common: give both the same --seed")
    before, after = (_share(sum(r["solved"][p] for p in both), len(both)) for r in (base, tuned))
    modes = {"base": base["modes"][EARLY]}
    modes |= {f"tuned, {MODES[mode]}": summary for mode, summary in tuned["modes"].items()}
    text = [
        f"# Fine-tuning: {task['title']}, before and after",
        _glance(base, tuned),
        f"{_origin(tuned)} Of the {len(both)} that both models were asked, the base model has "
        f"{percent(before)} {task['measures']['exact']}, and the tuned one has {percent(after)}.",
        "## All figures",
        _overall(modes, task),
    ]
    if not len(both) == base["count"] == tuned["count"]:
        text.append(f"The columns do not count the same {noun}s; the tables below compare better.")
    text += [_paired(tuned), *starts_section(modes, task), *_bins(modes, task)]
    images = {}
    if tuned["modes"][EARLY]["bins"]:
        shown = {"before": base["modes"][EARLY]["bins"], "after": tuned["modes"][EARLY]["bins"]}
        images["before_after.png"] = plots.before_after(shown, _measure(task))
    if training["losses"]:
        images["training.png"] = plots.training_curve(training["losses"], training["evals"])
    images |= tuned["images"]
    text += [*_images(images, task), "## The training", _training(training)]
    text += ["## How it was measured", "The base model:", _setting(base)]
    text += ["The tuned model:", _setting(tuned), _notes(task, tuned["modes"])]
    write_files(out, {**images, REPORT: document(text)})


def headline(results: dict[str, Any]) -> str:
    """How many answers are right, in how many steps, and how many are right in another format."""
    mode, task = results["modes"][EARLY], results["task"]
    count = results["count"]
    subject = f"Of {count} {task['noun']}s {percent(mode['exact'])} are"
    if count == 1:
        subject = f"The {task['noun']} is{'' if mode['exact']['rate'] else ' not'}"
    sentence = (
        f"{subject} {task['measures']['exact']}, in {mode['steps']['effective']:.1f} effective "
        "denoising steps."
    )
    if starts := mode.get("starts"):
        sentence += (
            f" Each answer is the surest of {starts['count']} starts. One start has "
            f"{percent(starts['one'])} of them right, any start {percent(starts['any'])}."
        )
    other = mode.get("other_format")
    if other and other["rate"]:
        subject = "The answer is" if count == 1 else f"Another {percent(other)} are"
        sentence += f" {subject} right, but in another format."
    return sentence


def _glance(base: dict[str, Any], tuned: dict[str, Any]) -> str:
    """The first table: right answers and steps of each kind of item, before and after.

    The kinds are the bins of the first division. Published figures, if the task has some for one of
    the kinds, are in a column of their own.
    """
    task, before, after = tuned["task"], base["modes"][EARLY], tuned["modes"][EARLY]
    noun, exact = task["noun"], task["measures"]["exact"]
    title = next(iter(after["bins"]), None)
    kinds, asked = (
        {f"all {noun}s": mode} if title is None else mode["bins"].get(title, {})
        for mode in (after, before)
    )
    published = {k: v for k, v in task.get("published", {}).items() if k in kinds}
    who = list(dict.fromkeys(figures["who"] for figures in published.values()))
    rows = []
    for kind, found in kinds.items():
        first, known = asked.get(kind), published.get(kind)
        right = [percent(first["exact"]) if first else "", percent(found["exact"])]
        steps = [f"{first['mean_steps']:.1f}" if first else "", f"{found['mean_steps']:.1f}"]
        for name in who:
            theirs = known if known and known["who"] == name else None
            right.append(f"{100 * theirs['exact']:.1f} %" if theirs else "")
            steps.append(f"{theirs['steps']:.1f}" if theirs else "")
        count = f"{found['count']} {noun}s"
        rows += [[f"**{kind}** ({count}): {exact}", *right], ["denoising steps for one", *steps]]
    return table(["", "before", "after", *who], rows)


def _origin(results: dict[str, Any]) -> str:
    """Where the items are from, as a sentence. A file may hold items that were trained on."""
    noun = results["task"]["noun"]
    if results["items"] == HELD_OUT:
        return f"None of these {noun}s was trained on."
    return f"The {noun}s are those of {results['items']}."


def _overall(modes: dict[str, Any], task: dict[str, Any]) -> str:
    """The table of all figures, a column for each mode."""
    forms = {f"{task['noun']}s": lambda m: str(m["count"])}
    forms |= {
        name: lambda m, key=key: percent(m.get(key)) for key, name in task["measures"].items()
    }
    forms |= {
        "denoising steps, mean": lambda m: f"{m['steps']['mean']:.2f}",
        "denoising steps, quartiles": lambda m: " / ".join(
            f"{q:g}" for q in m["steps"]["quartiles"]
        ),
        "effective denoising steps": lambda m: f"{m['steps']['effective']:.2f}",
        "tokens per forward": lambda m: f"{m['tokens_per_forward']:.2f}",
        f"seconds for one {task['noun']}": lambda m: f"{m['seconds_per_item']:.3g}",
        "seconds of compilation": lambda m: f"{m['compile_seconds']:.3g}",
    }
    rows = [[name, *(form(mode) for mode in modes.values())] for name, form in forms.items()]
    return table(["", *modes], rows)


def _bins(modes: dict[str, Any], task: dict[str, Any]) -> list[str]:
    """A heading and a table for each way to divide the items."""
    text, measures = [], task["measures"]
    for title in next(iter(modes.values()))["bins"]:
        rows = []
        for name in _union(modes, title):
            for label, mode in modes.items():
                if name in mode["bins"][title]:
                    part = mode["bins"][title][name]
                    shares = [percent(part.get(measure)) for measure in measures]
                    rows.append([name, label, part["count"], *shares, f"{part['mean_steps']:.1f}"])
        header = ["", "", f"{task['noun']}s", *measures.values(), "mean steps"]
        text += [f"## By {title}", table(header, rows)]
    return text


def _union(modes: dict[str, Any], title: str) -> dict[str, None]:
    """Names of all bins under a title, as keys, which keep their order.

    The bins of the last mode come first, because that mode has the most items.
    """
    return {name: None for mode in reversed(modes.values()) for name in mode["bins"][title]}


def _budgets(results: dict[str, Any], task: dict[str, Any]) -> str:
    """The table of right answers for each number of steps, a column for each bin."""
    budgets = results["budgets"]
    one = ", by one start" if results["sampler"].get("starts", 1) > 1 else ""
    bins = {name: part["count"] for name, part in budgets[0]["bins"].items()}
    header = ["steps", *(f"{name} ({count} {task['noun']}s)" for name, count in bins.items())]
    rows = [[b["steps"], *(percent(b["bins"][n]["exact"]) for n in bins)] for b in budgets]
    title = f"{_measure(task).capitalize()}{one}, without early stopping."
    return f"{title}\n\n{table(header, rows)}"


def _measure(task: dict[str, Any]) -> str:
    """Names what is counted, for example "puzzles solved exactly"."""
    return f"{task['noun']}s {task['measures']['exact']}"


def _notes(task: dict[str, Any], modes: Iterable[str]) -> str:
    """The notes of the task, of all reports and of modes, as a list."""
    notes = [*task["notes"], *(note.format(noun=task["noun"]) for note in NOTES)]
    notes += [LEFT_TO_RIGHT_NOTE] * (LEFT_TO_RIGHT in modes)
    return "\n".join(f"- {note}" for note in notes)


def _paired(results: dict[str, Any]) -> str:
    """How the answers with and without early stopping compare; empty if there is one mode."""
    pairs = results["paired"]
    if not pairs:
        return ""
    return (
        f"With and without early stopping, {pairs['same_answer']} of {results['count']} answers "
        f"are the same. Both answers are right for {pairs['both']} {results['task']['noun']}s, "
        f"only the one with early stopping for {pairs['only_early_stop']}, only the one without "
        f"for {pairs['only_all_steps']}, and neither for {pairs['neither']}."
    )


def _training(training: dict[str, Any]) -> str:
    """What the training run was, as a list."""
    config, losses, evals = training["config"], training["losses"], training["evals"]
    lines = [
        f"- {config.get('steps')} steps of {config.get('batch_size')} examples, seed "
        f"{config.get('seed')}, from `{config.get('init') or config.get('preset')}`"
    ]
    if losses:
        last = losses[-1]
        minutes = f" after {last['seconds'] / 60:.1f} minutes" if "seconds" in last else ""
        lines.append(f"- loss {last['loss']:.4f} at step {last['step']}{minutes}")
        if told := _accuracies(last):
            lines.append(f"- {told}")
    if evals:
        last = evals[-1]
        lines.append(f"- {100 * last['eval/exact']:.1f} % of held-out answers exact at the end")
    return "\n".join(lines)


def _accuracies(figures: dict[str, float]) -> str:
    """How often the most probable token was right, by a line of the log; empty without figures.

    Logs of earlier versions tell answers and fill not apart.
    """
    names = {
        "answer_accuracy": "the tokens of answers",
        "fill_accuracy": "the fill",
        "denoise_accuracy": "all tokens, the fill included",
    }
    parts = [f"{100 * figures[k]:.1f} % of {name}" for k, name in names.items() if k in figures]
    return f"the most probable token is the right one for {', '.join(parts)}" if parts else ""


def _setting(results: dict[str, Any]) -> str:
    """How an evaluation was made: the command line, and a list."""
    sampler = ", ".join(f"{k} {v}" for k, v in results["sampler"].items() if v is not None)
    task = results["task"]
    told = "".join(f", {k} {v}" for k, v in task["settings"].items() if v != "")
    return (
        f"{shell(results['command'])}\n\n- checkpoint `{results['checkpoint']}`; "
        f"{results['count']} {task['noun']}s, {results['items']}{told}; seed {results['seed']}; "
        f"batches of {results['batch_size']}\n- sampler: {sampler}\n- {results['device']}"
    )


def _share(total: int, count: int) -> dict[str, float]:
    """The fraction total / count with the ends of its 95 % Wilson interval."""
    low, high = wilson(total, count)
    return {"rate": total / count, "low": low, "high": high}


def _images(files: dict[str, bytes], task: dict[str, Any]) -> list[str]:
    """A heading and an image for each file that IMAGES names, in the order of IMAGES."""
    titles = {n: title.format(noun=task["noun"]) for n, title in IMAGES.items() if n in files}
    return [part for n, title in titles.items() for part in (f"## {title}", f"![{title}]({n})")]


def main(argv: list[str]) -> int:
    """Runs the command. Returns its exit status: 0, or 2 for an error that the user can correct."""
    values = flags.FlagValues()
    for name, help in {
        "base": "Output folder of train.evaluate on the model before training.",
        "tuned": "Output folder of train.evaluate on the model after training.",
        "workdir": "Workdir of the training run.",
        "out": "Folder for the report. It is made if it does not exist.",
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
