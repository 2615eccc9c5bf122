"""Saves over an existing model that are killed: the old or the new model is there whole."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diffusiongemma import load_checkpoint, save_checkpoint
from scripts.trials import tiny_run
from scripts.trials.bad_input import tiny_checkpoint
from scripts.trials.kills_in_export import contents, fault_of
from scripts.trials.moment import kill_while
from scripts.trials.processes import Running
from scripts.trials.trial import Kind, Outcome, Trial, Verdict, random

NAME, COUNT = "kills in saves", 20
SAVES = "saves"  # the file that says that saving has begun


def save_in_turn(one: Path, other: Path, target: Path, times: int | None = None) -> None:
    """Saves two models in turn into a folder.

    Args:
      one, other: checkpoints of the models.
      target: the folder.
      times: how many saves; None for ever.
    """
    models = [load_checkpoint(folder) for folder in (one, other)]
    for number, model in enumerate(itertools.cycle(models)):
        if number == times:
            return
        save_checkpoint(model, target)
        if number == 1:
            (target.parent / SAVES).touch()


def make_models(shared: Path) -> tuple[Path, Path]:
    """Two checkpoints of other shapes, made once: files of both beside each other are no model."""
    one, other = shared / "one", shared / "other"
    if not other.exists():
        tiny_checkpoint(one)
        tiny_checkpoint(other, layers=2)
    return one, other


def kill(folder: Path, shared: Path, rng: np.random.Generator) -> Outcome:
    """One trial."""
    one, other = make_models(shared)
    place = folder / "place"
    place.mkdir()
    target = place / "model"

    def read(checkpoint: Path) -> dict[str, str] | str:
        """Checksums without that of the tokenizer, which save_checkpoint does not write."""
        found = contents(folder / "read", checkpoint, folder / "temporary")
        if isinstance(found, str):
            return found
        return {k: v for k, v in found.items() if k != "tokenizer.json"}

    models = [read(one), read(other)]
    saves = Running(folder / "first", save_in_turn, one, other, target)
    moment = kill_while(saves, rng, (place / SAVES).exists, "saves began", longest=1.0)
    ended = saves.wait()
    if ended.status != -9:
        return Outcome(fault_of(ended), f"the saves ended: {ended.last}")
    if read(target) not in models:
        return Outcome(Verdict.LOST, f"{moment}: neither the old model nor the new one is there")
    again = Running(folder / "second", save_in_turn, one, other, target, 1).wait()
    if again.status:
        return Outcome(fault_of(again), f"{moment}, saved once more: {again.last}")
    if left := [*tiny_run.leftovers(place)]:
        return Outcome(Verdict.LOST, f"{moment}: left behind: {', '.join(left[:5])}")
    if read(target) != models[0]:
        return Outcome(Verdict.LOST, f"{moment}: the model that was saved last is not there")
    return Outcome(Verdict.RIGHT, f"{moment}: the old or the new one is whole")


def trials(seed: int, shared: Path) -> Iterator[Trial]:
    """The trials of a seed."""
    for i in range(COUNT):
        rng = random(NAME, seed, i)
        yield Trial(str(i), lambda folder, rng=rng: kill(folder, shared, rng))


KIND = Kind(NAME, COUNT, trials)
