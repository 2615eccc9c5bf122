"""Disks that are full: one line says so, nothing is half-written, and with room it goes on."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.trials import tiny_run
from scripts.trials.kills_in_export import FORMATS, SOURCE, contents, convert_flags, fault_of
from scripts.trials.kills_in_training import judged_restart
from scripts.trials.processes import Ended, run
from scripts.trials.trial import Kind, Outcome, Trial, Verdict, random

NAME, COUNT = "full disks", 20
FULL = re.compile(r"[Nn]o space left|has no room|disk has room|disk is full")
ROOM = 64 << 20  # bytes of a disk with room
TRAINING, CONVERSION = 4 << 20, 4 << 20  # bytes that each of them may meet, at most


class NoMount(Exception):
    """A disk cannot be mounted here."""


@contextlib.contextmanager
def disk(place: Path, size: int) -> Iterator[None]:
    """Mounts a disk of so many bytes.

    Raises:
      NoMount: that is not permitted, or there is no program for it.
    """
    place.mkdir()
    _mount("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def enlarge(place: Path) -> None:
    """Gives a disk room."""
    _mount("mount", "-o", f"remount,size={ROOM}", str(place))


def _mount(*command: str) -> None:
    """Calls mount."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        text = getattr(error, "stderr", "") or str(error)
        raise NoMount(f"no tmpfs may be mounted here: {text.strip()}") from None


def unclear(ended: Ended) -> Outcome | None:
    """What is wrong with how a command ended on a full disk; None if nothing is."""
    if ended.broken:
        return Outcome(ended.broken, ended.last)
    if not (ended.is_one_line and FULL.search(ended.last)):
        return Outcome(Verdict.UNCLEAR, " / ".join(ended.err[-3:]))
    return None


def training(folder: Path, shared: Path, rng: np.random.Generator) -> Outcome:
    """A training on a full disk, which gets room later."""
    size = int(rng.integers(1, TRAINING >> 12)) << 12
    place, what = folder / "disk", f"{size >> 10} KiB for a training"
    right = tiny_run.undisturbed(shared).workdir
    with disk(place, size):
        workdir = place / "run"
        ended = tiny_run.train(folder / "first", shared, workdir)
        if ended.status and (fault := unclear(ended)):
            return Outcome(fault.verdict, f"{what}: {fault.said}")
        if workdir.exists() and (left := tiny_run.leftovers(workdir)) and ended.status:
            return Outcome(Verdict.LOST, f"{what}: left behind: {', '.join(left[:5])}")
        if not ended.status and (fault := tiny_run.difference(workdir, right)):
            return Outcome(Verdict.LOST, f"{what}: {fault}")
        if not ended.status:
            return Outcome(Verdict.RIGHT, f"{what}: it is enough")
        enlarge(place)
        after = judged_restart(folder / "second", shared, workdir, what)
    verdict = Verdict.CLEAR if after.verdict == Verdict.RIGHT else after.verdict
    return Outcome(verdict, f"{after.said} ({ended.last})")


def conversion(folder: Path, form: str, rng: np.random.Generator) -> Outcome:
    """A conversion to a full disk, which gets room later."""
    size = int(rng.integers(1, CONVERSION >> 12)) << 12
    place, what = folder / "disk", f"{size >> 10} KiB for a conversion to {form}"
    with disk(place, size):
        target = place / "target"
        command = convert_flags(SOURCE, target, form)
        ended = run(folder / "first", *command)
        if ended.status:
            if fault := unclear(ended):
                return Outcome(fault.verdict, f"{what}: {fault.said}")
            if left := [path.name for path in place.iterdir()]:
                return Outcome(Verdict.LOST, f"{what}: left behind: {', '.join(left)}")
            enlarge(place)
            again = run(folder / "second", *command)
            if again.status:
                return Outcome(fault_of(again), f"{what}, with room: {again.last}")
        enlarge(place)
        run(folder / "right-output", *convert_flags(SOURCE, folder / "right", form))
        found, right = (
            contents(folder / "read", x, folder / "temporary") for x in (target, folder / "right")
        )
    if found != right:
        return Outcome(Verdict.LOST, f"{what}: the target is not whole")
    if ended.status:
        return Outcome(Verdict.CLEAR, f"{what}: {ended.last}")
    return Outcome(Verdict.RIGHT, f"{what}: it is enough")


def unless_mounted(trial, *arguments) -> Outcome:
    """What comes of a trial, or why it cannot be done."""
    try:
        return trial(*arguments)
    except NoMount as error:
        return Outcome(Verdict.NOT_RUN, str(error))


def trials(seed: int, shared: Path) -> Iterator[Trial]:
    """The trials of a seed: every other one is a training."""
    for i in range(COUNT):
        rng, form = random(NAME, seed, i), FORMATS[i // 2 % 2]
        made = (conversion, form, rng) if i % 2 else (training, shared, rng)
        yield Trial(str(i), lambda folder, made=made: unless_mounted(made[0], folder, *made[1:]))


KIND = Kind(NAME, COUNT, trials)
