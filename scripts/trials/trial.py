"""What a trial is, what can come of it, and a kind of trials."""

import dataclasses
import enum
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


class Verdict(enum.StrEnum):
    """What came of a trial. A trial that was NOT_RUN says nothing."""

    CLEAR = "clear"  # what could not be done is said in one line, and nothing is half-written
    RIGHT = "right"  # the result is the one of an undisturbed run
    REFUSED = "refused"  # a bad input is refused in one line that says what is wrong
    UNCLEAR = "unclear"  # it is refused, but not in one such line
    TRACEBACK = "traceback"  # also a process that a signal ended
    HANG = "hang"  # it neither ends nor computes, or computes for far too long
    SILENT = "silent"  # a bad input is accepted
    WRONG = "wrong"  # there is a result, and it is another one
    LOST = "lost"  # something is lost, half-written or left behind
    NOT_RUN = "not run"  # the machine does not permit it

    @property
    def bad(self) -> bool:
        """Whether it is a fault."""
        good = (Verdict.CLEAR, Verdict.RIGHT, Verdict.REFUSED, Verdict.NOT_RUN)
        return self not in good


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a trial, and in a few words how it was seen."""

    verdict: Verdict
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
      name: a name of its own within its kind. With the seed it says all that is random.
      run: does it in an empty folder, which is removed afterwards.
    """

    name: str
    run: Callable[[Path], Outcome]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of trials.

    Attributes:
      name: for --only and the table.
      count: how many trials a full run has.
      trials: gives that many trials of a seed. The folder is for what they share: the trials of
        all kinds get the same one, which stays until the end.
    """

    name: str
    count: int
    trials: Callable[[int, Path], Iterator[Trial]]


def random(kind: str, seed: int, number: int) -> np.random.Generator:
    """The random numbers of a trial, whichever trials came before it."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), number])


def shuffled(kind: str, seed: int, rows: tuple) -> list:
    """The rows of a table in a random order, so that a short run tries a random part of them."""
    return [rows[i] for i in random(kind, seed, 0).permutation(len(rows))]
