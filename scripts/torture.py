"""Does its worst to this repository and counts what comes of it: kills, full disks, bad inputs.

    python -m scripts.torture --minutes=1             # a random part of all kinds of trials
    python -m scripts.torture --minutes=120           # all of them, in less time if possible
    python -m scripts.torture --only=bombs,pairs --seed=7 --out=torture.md

A seed decides what is tried and in which order. Every kind has at least one trial, and in the end
all have had the same share of their trials. The status is 1 if a trial shows a fault. Each fault is
listed with the command that tries it again. Ctrl-C ends it with the table of what was done.
scripts/trials/registry.py lists the kinds.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from tqdm import tqdm

from files.printable import printable, tell
from files.whole_file import write_file
from sample import cli
from scripts.trials.registry import KINDS
from scripts.trials.report import Outcomes, faults, markdown
from scripts.trials.trial import Kind, Outcome, Trial, Verdict

# Most of the time is compilation, and no array is large.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    cli.define_seed(values, 0, "Decides what is tried.")
    help = "Minutes after which no more trials begin. 0: one trial of each kind."
    flags.DEFINE_float("minutes", 10.0, help, lower_bound=0, flag_values=values)
    names = ", ".join(kind.name for kind in KINDS)
    flags.DEFINE_list(
        "only", [], f"Kinds of trials, separated by commas: {names}.", flag_values=values
    )
    flags.DEFINE_string("trial", "", "The name of one trial, to try it again.", flag_values=values)
    flags.DEFINE_string("out", "", "File for the table, in Markdown.", flag_values=values)
    return values


def chosen(names: list[str]) -> list[Kind]:
    """The kinds of these names, all for none. Raises ValueError for a name that is none."""
    known = {kind.name: kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise ValueError(f"--only: no kind '{name}': choose from {', '.join(known)}")
    return [kind for kind in KINDS if not names or kind.name in names]


def attempt(trial: Trial, folder: Path) -> Outcome:
    """Does a trial in an empty folder. An error in it is a fault too."""
    folder.mkdir()
    try:
        return trial.run(folder)
    except Exception as error:
        return Outcome(Verdict.TRACEBACK, f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def torture(kinds: list[Kind], seed: int, minutes: float, name: str, scratch: Path) -> Outcomes:
    """Does trials of these kinds in turn: next comes the kind that has had the least share.

    Args:
      kinds: the kinds.
      seed: decides what is tried.
      minutes: after which no trial begins, but for the first one of a kind.
      name: the name of the only trial; "" for all.
      scratch: an empty folder.

    Returns:
      what came of them.
    """
    shared = scratch / "shared"
    shared.mkdir()
    left: dict[str, Iterator[Trial]] = {kind.name: kind.trials(seed, shared) for kind in kinds}
    outcomes: Outcomes = {kind.name: [] for kind in kinds}
    end, total = time.monotonic() + 60 * minutes, sum(kind.count for kind in kinds)
    with (
        tqdm(total=1 if name else total, unit="trial") as bar,
        contextlib.suppress(KeyboardInterrupt),  # the table tells what was done
    ):
        while left:
            kind = min(
                (kind for kind in kinds if kind.name in left),
                key=lambda kind: len(outcomes[kind.name]) / kind.count,
            )
            done = outcomes[kind.name]
            late = done and time.monotonic() > end
            rest = () if late else left[kind.name]
            trial = next((trial for trial in rest if name in ("", trial.name)), None)
            if trial is None:
                del left[kind.name]
                continue
            bar.set_description(f"{kind.name}, {printable(trial.name)[:40]}")
            # A folder of its own: what a killed process has started may still write into the last.
            outcome = attempt(trial, scratch / f"trial-{sum(map(len, outcomes.values()))}")
            done.append((trial.name, outcome))
            if outcome.verdict.bad:
                bar.clear()
                tell(f"{outcome.verdict} in {kind.name}, {printable(trial.name)}")
            bar.update()
    return outcomes


def main(argv: list[str]) -> int:
    """Runs the command. Returns its exit status: 0, 1 if there is a fault, or 2 as cli.run does."""
    values = define_flags()

    def run() -> int:
        os.environ.setdefault("XLA_FLAGS", QUICK)
        kinds = chosen([name.strip() for name in values.only])
        with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as scratch:
            outcomes = torture(kinds, values.seed, values.minutes, values.trial, Path(scratch))
        found, table = faults(outcomes, values.seed), markdown(kinds, outcomes)
        print(table)
        if values.trial:
            found += [f"{o.verdict}: {o.said}" for done in outcomes.values() for _, o in done]
        for line in found:
            print(printable(line))
        if values.out:
            write_file(Path(values.out), f"{table}\n".encode())
        return int(any(o.verdict.bad for done in outcomes.values() for _, o in done))

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
