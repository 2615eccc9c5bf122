"""Two trainings on one workdir: one goes on, the other is told who holds it."""

import fcntl
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.trials import tiny_run
from scripts.trials.trial import Kind, Outcome, Trial, Verdict, random
from train.workdir import LOCK

NAME, COUNT = "pairs on one workdir", 10


def is_held(file: Path) -> bool:
    """Whether a process holds the lock of a file. It may be there before it is locked."""
    if not file.exists():
        return False
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def pair(folder: Path, shared: Path, rng: np.random.Generator) -> Outcome:
    """One trial: both start at once, or one of them is stopped while it trains, and one comes."""
    right, workdir = tiny_run.undisturbed(shared).workdir, folder / "run"
    together, steps = rng.random() < 0.5, int(rng.integers(0, tiny_run.STEPS - 1))
    first = tiny_run.start_training(folder / "first", shared, workdir)
    if together:
        second = tiny_run.start_training(folder / "second", shared, workdir)
        both = [second.wait(), first.wait()]
    else:
        while first.is_alive():
            if (workdir / LOCK).exists() and max(tiny_run.checkpoints(workdir), default=0) >= steps:
                break
            time.sleep(0.002)
        first.send(signal.SIGSTOP)
        held = is_held(workdir / LOCK)
        second = tiny_run.start_training(folder / "second", shared, workdir)
        said = second.wait()
        first.send(signal.SIGCONT)
        both = [said, first.wait()]
        if held and said.status == 0:
            return Outcome(Verdict.SILENT, f"it trains beside another one, at step {steps}")
    for ended in both:
        if ended.broken:
            return Outcome(ended.broken, ended.last)
    if fault := tiny_run.difference(workdir, right):
        return Outcome(Verdict.LOST, fault)
    refused = [ended for ended in both if ended.status]
    if len(refused) == 2:
        return Outcome(Verdict.LOST, f"both end: {' and '.join(x.last for x in refused)}")
    if not refused:  # one was at its end before the other one began
        return Outcome(Verdict.RIGHT, "one after the other")
    said = refused[0]
    if not (said.is_one_line and re.search(tiny_run.HELD, said.last)):
        return Outcome(Verdict.UNCLEAR, said.last)
    return Outcome(Verdict.CLEAR, said.last)


def trials(seed: int, shared: Path) -> Iterator[Trial]:
    """The trials of a seed."""
    for i in range(COUNT):
        rng = random(NAME, seed, i)
        yield Trial(str(i), lambda folder, rng=rng: pair(folder, shared, rng))


KIND = Kind(NAME, COUNT, trials)
