"""Trainings that are killed at a random moment and started again: they end with the same bits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.trials import tiny_run
from scripts.trials.moment import kill_anywhere, kill_while
from scripts.trials.trial import Kind, Outcome, Trial, Verdict, random

NAME, COUNT = "kills in training", 40


def judged_restart(output: Path, shared: Path, workdir: Path, moment: str) -> Outcome:
    """Starts a disturbed run again, and compares its end with the undisturbed run."""
    right = tiny_run.undisturbed(shared).workdir
    if fault := tiny_run.half_written(workdir, right):
        return Outcome(Verdict.LOST, f"{moment}: {fault}")
    ended = tiny_run.train(output, shared, workdir)
    if ended.status or ended.broken:
        return Outcome(ended.broken or Verdict.LOST, f"{moment}, restarted: {ended.last}")
    fault = tiny_run.difference(workdir, right)
    return Outcome(Verdict.LOST if fault else Verdict.RIGHT, f"{moment}: {fault or 'the same'}")


def kill(folder: Path, shared: Path, rng: np.random.Generator) -> Outcome:
    """One trial: half are killed at any moment, half while a checkpoint or a model is written."""
    right, workdir = tiny_run.undisturbed(shared), folder / "run"
    done = int(rng.integers(0, tiny_run.STEPS // 2))  # how many checkpoints come before
    anywhere = rng.random() < 0.5
    process = tiny_run.start_training(folder / "first", shared, workdir)
    if anywhere:
        moment = kill_anywhere(process, rng, right.seconds)
    else:

        def writes() -> bool:
            steps = tiny_run.checkpoints(workdir)
            far = not done or (steps and steps[-1] >= 2 * done)
            return bool(far and tiny_run.leftovers(workdir / "checkpoints"))

        moment = kill_while(process, rng, writes, f"checkpoint {2 * done + 2} began")
    process.wait()
    return judged_restart(folder / "second", shared, workdir, moment)


def trials(seed: int, shared: Path) -> Iterator[Trial]:
    """The trials of a seed."""
    for i in range(COUNT):
        rng = random(NAME, seed, i)
        yield Trial(str(i), lambda folder, rng=rng: kill(folder, shared, rng))


KIND = Kind(NAME, COUNT, trials)
