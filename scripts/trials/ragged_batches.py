"""Ragged batches of a tiny model: each row equals the row alone."""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from data.text.parts import NOTHING
from sample import Generation, Given, SamplerConfig, SplitModel, generate
from scripts.trials.lively_model import make_lively_model
from scripts.trials.trial import Kind, Outcome, Trial, Verdict, random

NAME, COUNT = "ragged batches", 300
WIDTH, ROWS, NEW = 10, 6, 30
LENGTHS = (3, 6, WIDTH)  # a row alone has no padding, and each length compiles a program
CONFIG = SamplerConfig(
    max_steps=10,
    entropy_bound=1.0,
    stop_threshold=0.3,
    stop_ids=(1,),
    max_new_tokens=NEW,
    trajectory=True,
)
ROUNDING = 1e-4  # nats, by which entropies in a batch and alone may differ


@functools.cache
def split_model() -> SplitModel:
    """The model of all trials."""
    return SplitModel(make_lively_model())


def padded(length: int, rng: np.random.Generator) -> np.ndarray:
    """Which places of a row [WIDTH] are real: at its left, at its right, or anywhere."""
    mask, layout = np.zeros(WIDTH, bool), rng.integers(3)
    if layout == 2:
        mask[rng.choice(WIDTH, length, replace=False)] = True
    else:
        start = (WIDTH - length) * int(layout)
        mask[start : start + length] = True
    return mask


def random_given(rng: np.random.Generator) -> Given:
    """Tokens that are given for a part of each row's answer, of which some are kept."""
    tokens = rng.integers(0, 64, (ROWS, NEW)).astype(np.int32)
    tokens[rng.random(tokens.shape) < rng.random((ROWS, 1))] = NOTHING
    keep = (tokens != NOTHING) & (rng.random(tokens.shape) < rng.choice([0, 0.5, 1], (ROWS, 1)))
    return Given(tokens, keep)


def difference(batch: Generation, row: int, alone: Generation) -> str:
    """The name of what a row has in a batch and not alone; "" for nothing."""
    for name in ("tokens", "steps", "valid_tokens"):
        if not np.array_equal(getattr(batch, name)[row], getattr(alone, name)[0]):
            return name
    return ""


def by_rounding(batch: Generation, row: int, alone: Generation) -> bool:
    """Whether a row goes another way in a batch than alone only because of rounding.

    A draw that two tokens win by almost the same number may differ, or a step that almost stops.
    Up to the first canvas that differs, all entropies must agree.
    """
    count = len(alone.steps[0]) * CONFIG.max_steps
    seen, own = (x.canvas[i].reshape(count, -1) for x, i in ((batch, row), (alone, 0)))
    differs = np.flatnonzero((seen != own).any(axis=1))
    before = differs[0] if len(differs) else count
    first, second = (x.entropy[i].reshape(count, -1) for x, i in ((batch, row), (alone, 0)))
    return before > 0 and float(np.abs(first - second)[:before].max()) < ROUNDING


def compare(rng: np.random.Generator) -> Outcome:
    """One trial: the rows of a batch, together and alone."""
    model, key = split_model(), jax.random.key(rng.integers(2**32))
    lengths = rng.choice(LENGTHS, ROWS)
    mask = np.stack([padded(length, rng) for length in lengths])
    # What lies under the padding is no pad token: nobody may read it.
    tokens = rng.integers(3, 49, mask.shape).astype(np.int32)
    given = random_given(rng) if rng.random() < 0.4 else None
    batch = generate(model, tokens, mask, key, CONFIG, given=given)
    rounded = 0
    for row in range(ROWS):
        own = None if given is None else Given(given.tokens[[row]], given.keep[[row]])
        alone = generate(model, tokens[row, mask[row]][None], None, key, CONFIG, given=own)
        if name := difference(batch, row, alone):
            if by_rounding(batch, row, alone):
                rounded += 1
                continue
            return Outcome(Verdict.WRONG, f"row {row} has other {name} in the batch than alone")
        if given is not None:
            kept = given.keep[row]
            if not np.array_equal(batch.tokens[row, :NEW][kept], given.tokens[row][kept]):
                return Outcome(Verdict.LOST, f"row {row} has other tokens than those to keep")
    what = "" if given is None else ", some tokens given"
    what += f", {rounded} rows differ by rounding" if rounded else ""
    return Outcome(Verdict.RIGHT, f"{ROWS} rows, steps {batch.steps.tolist()}{what}")


def trials(seed: int, shared: Path) -> Iterator[Trial]:
    """The trials of a seed."""
    for i in range(COUNT):
        yield Trial(str(i), lambda _, i=i: compare(random(NAME, seed, i)))


KIND = Kind(NAME, COUNT, trials)
