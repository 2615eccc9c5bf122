"""Exports that are killed: a run's model at its end, and conversions. It is there whole or not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from files.staging import is_staging
from scripts.trials import tiny_run
from scripts.trials.kills_in_training import judged_restart
from scripts.trials.moment import kill_anywhere, kill_while
from scripts.trials.processes import ROOT, Ended, run, start
from scripts.trials.trial import Kind, Outcome, Trial, Verdict, random

NAME, COUNT = "kills in export", 20
SOURCE = ROOT / "checkpoints" / "base"
FORMATS = ("hf", "orbax")


def convert_flags(source: Path, target: Path, form: str) -> tuple[str, ...]:
    """The command line of a conversion."""
    return "scripts.convert", f"--from={source}", f"--to={target}", f"--format={form}"


def contents(output: Path, checkpoint: Path, temporary: Path) -> dict[str, str] | str:
    """Checksums of a checkpoint's files, written in one format; its error if it cannot be read."""
    ended = run(output, *convert_flags(checkpoint, temporary, "hf"))
    found = ended.last if ended.status else tiny_run.hashes(temporary)
    shutil.rmtree(temporary, ignore_errors=True)
    return found


def fault_of(ended: Ended) -> Verdict:
    """What it is if a command that should succeed has not."""
    return ended.broken or Verdict.LOST


def is_writing(folder: Path) -> bool:
    """Whether something is being made in a folder."""
    return any(is_staging(path.name) for path in folder.iterdir())


def kill_conversion(folder: Path, form: str, rng: np.random.Generator) -> Outcome:
    """Kills a conversion; the target is absent or whole, and the next conversion is right."""
    target, place = folder / "place" / "target", folder / "place"
    place.mkdir()
    command = convert_flags(SOURCE, target, form)
    undisturbed = run(folder / "undisturbed", *convert_flags(SOURCE, folder / "right", form))
    process = start(folder / "first", *command)
    if rng.random() < 0.3:
        moment = kill_anywhere(process, rng, undisturbed.seconds)
    else:
        moment = kill_while(process, rng, lambda: is_writing(place), "the writing began")
    process.wait()
    right = contents(folder / "read", folder / "right", folder / "temporary")
    moment = f"to {form}, {moment}"
    there = target.exists()
    if there and contents(folder / "read", target, folder / "temporary") != right:
        return Outcome(Verdict.LOST, f"{moment}: the target is there and not whole")
    ended = run(folder / "second", *command)
    if there:
        if not (ended.is_one_line and "exists and is not empty" in ended.last):
            return Outcome(fault_of(ended), f"{moment}, once more: {ended.last}")
    elif ended.status:
        return Outcome(fault_of(ended), f"{moment}, once more: {ended.last}")
    if contents(folder / "read", target, folder / "temporary") != right:
        return Outcome(Verdict.LOST, f"{moment}, once more: the target is not whole")
    left = sorted(path.name for path in place.iterdir() if path != target)
    if left:
        return Outcome(Verdict.LOST, f"{moment}: left behind: {', '.join(left)}")
    return Outcome(Verdict.RIGHT, f"{moment}: {'whole' if there else 'absent, then whole'}")


def kill_export(folder: Path, shared: Path, rng: np.random.Generator) -> Outcome:
    """Kills a run that has only its export to do."""
    workdir, right = folder / "run", tiny_run.undisturbed(shared)
    shutil.copytree(right.workdir, workdir)
    shutil.rmtree(workdir / "model")
    process = tiny_run.start_training(folder / "first", shared, workdir)

    def writes() -> bool:
        return (workdir / "model").exists() or is_writing(workdir)

    if rng.random() < 0.3:  # an export takes less time than the run; none takes less than half
        moment = kill_anywhere(process, rng, right.seconds / 2)
    else:
        moment = kill_while(process, rng, writes, "the writing began")
    process.wait()
    return judged_restart(folder / "second", shared, workdir, f"at its end, {moment}")


def trials(seed: int, shared: Path) -> Iterator[Trial]:
    """The trials of a seed: every other one is a conversion."""
    for i in range(COUNT):
        rng = random(NAME, seed, i)
        form = FORMATS[i // 2 % 2]
        if i % 2:
            yield Trial(str(i), lambda folder, rng=rng: kill_export(folder, shared, rng))
        else:
            yield Trial(str(i), lambda f, rng=rng, form=form: kill_conversion(f, form, rng))


KIND = Kind(NAME, COUNT, trials)
