"""Judges how a command takes a bad input: it is refused in one line that says what is wrong."""

import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.trials.bad_input import BadInput, tiny_checkpoint
from scripts.trials.processes import ROOT, Ended, run
from scripts.trials.trial import Outcome, Verdict

CHECKPOINTS = ROOT / "checkpoints"


@functools.cache
def tiny(shared: Path) -> Path:
    """The tiny checkpoint in a folder that trials share, made once."""
    folder = shared / "tiny"
    tiny_checkpoint(folder)
    return folder


def base(shared: Path) -> Path:
    """The checkpoint checkpoints/base."""
    return CHECKPOINTS / "base"


def reader(shared: Path) -> Path:
    """The checkpoint checkpoints/read_grid, which sees images."""
    return CHECKPOINTS / "read_grid"


def refused(
    bad: BadInput,
    checkpoint: Callable[[Path], Path],
    shared: Path,
    folder: Path,
    most: float = float("inf"),
) -> Outcome:
    """Gives a bad input to its command, in a process of its own.

    Args:
      bad: the input.
      checkpoint: gives the checkpoint that is spoilt, of which a copy is made.
      shared: the folder that trials share.
      folder: an empty folder.
      most: seconds of processor time that the command may take.
    """
    model = folder / "model"
    shutil.copytree(checkpoint(shared), model, ignore=shutil.ignore_patterns("log"))
    bad.prepare(model)
    command, *flags = bad.argv(model)
    ended = run(folder / "output", command, *flags)
    outcome = judge(ended, bad.word)
    if made := [x for x in ("model-out", "model/run/checkpoints") if (folder / x).exists()]:
        return Outcome(Verdict.SILENT, f"{made[0]} is made: {ended.last}")
    if outcome.verdict == Verdict.REFUSED and ended.seconds > most:
        said = f"refused after {ended.seconds:.1f} s of processor time: {ended.last}"
        return Outcome(Verdict.HANG, said)
    return outcome


def judge(ended: Ended, word: str) -> Outcome:
    """Judges how a command ended that should refuse its input.

    Args:
      ended: how it ended.
      word: a regular expression for a part of its error.
    """
    if ended.broken:
        return Outcome(ended.broken, f"status {ended.status}: {ended.last}")
    if ended.status == 0:
        return Outcome(Verdict.SILENT, "it is accepted")
    if not ended.is_one_line or not re.search(word, ended.last):
        return Outcome(Verdict.UNCLEAR, f"status {ended.status}: {' / '.join(ended.err[-3:])}")
    return Outcome(Verdict.REFUSED, ended.last)
