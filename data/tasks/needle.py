"""The needle task: one number in a long text, asked for at its end.

The needle is a word and the five digits after it. All around is filler: random words, some of them
with five digits of their own. The question names the needle's word. That word occurs nowhere else,
so it alone tells which number is asked for.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from data.tasks.base_mixture import WORDS
from data.tasks.seeded import SeededSource
from data.tasks.task import UNBOUNDED, Check, Splits, Task

DIGITS = 5
NUMBERS = 0.04  # of the filler's words have digits, or of a dense filler's at least
# In our tokenizer and the turn format: all of a prompt but its filler, and the shortest prompt.
REST = 24
SHORTEST = 32


class NeedleSource(SeededSource):
    """Random-access source of needles.

    Lengths are those of whole prompts, in tokens of our tokenizer and in the turn format, and are
    drawn log-uniformly: between any length and its double lie equally many.

    Args:
      seed, size: as SeededSource's.
      longest, shortest: ends of the range, both included; at least SHORTEST.
      anywhere: the needle lies anywhere in the text, else at its start.
      dense: more of the filler's words have digits, up to all of them. The share is drawn
        log-uniformly. Short texts are then as hard as much longer ones.

    Raises:
      ValueError: an empty range, or one that begins below SHORTEST.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        longest: int,
        shortest: int = SHORTEST,
        anywhere: bool = True,
        dense: bool = False,
    ):
        if not SHORTEST <= shortest <= longest:
            raise ValueError(
                f"prompts of {shortest} to {longest} tokens: a needle takes {SHORTEST} or more"
            )
        super().__init__(seed, size)
        self.range, self.anywhere, self.dense = (shortest, longest), anywhere, dense

    def draw(self, rng: np.random.Generator) -> dict[str, str]:
        """{"prompt", "answer"}."""
        shortest, longest = self.range
        length = int(np.exp(rng.uniform(np.log(shortest), np.log(longest + 1))))
        length = min(max(length, shortest), longest) - REST
        word = WORDS[rng.integers(len(WORDS))]
        answer = [str(digit) for digit in rng.integers(0, 10, DIGITS)]
        before = int(rng.integers(length + 1)) if self.anywhere else 0
        share = np.exp(rng.uniform(np.log(NUMBERS), 0)) if self.dense else NUMBERS
        ahead = _filler(rng, word, before, share)
        behind = _filler(rng, word, length - before, share)
        text = " ".join(itertools.chain(ahead, [word], answer, behind))
        prompt = f"Read: {text}\nWhat number is after {word}?"
        return {"prompt": prompt, "answer": " ".join(answer)}


def _filler(rng: np.random.Generator, without: str, length: int, share: float) -> list[str]:
    """`length` words and digits, the digits as numbers of DIGITS after `share` of the words."""
    words = np.array([word for word in WORDS if word != without])
    text = words[rng.integers(len(words), size=length)]
    free = 0
    for at in np.flatnonzero(rng.random(length) < share):
        if free <= at < length - DIGITS:
            text[at + 1 : at + 1 + DIGITS] = rng.integers(0, 10, DIGITS)
            free = at + 1 + DIGITS
    return text.tolist()


@dataclasses.dataclass(frozen=True)
class NeedleTask(Task):
    """One number in a text. Training items have even seeds and held-out ones odd seeds.

    Attributes:
      longest, shortest: lengths of prompts in tokens, both included; see NeedleSource.
      dense: put more numbers into the filler.
    """

    longest: int = 128
    shortest: int = SHORTEST
    dense: bool = False

    name: ClassVar[str] = "needle"
    title: ClassVar[str] = "one number in a long text"
    noun: ClassVar[str] = "prompt"
    measures: ClassVar[dict[str, str]] = {
        "exact": "found exactly",
        "valid": "answers that are not blank",
        "parts": "digits right",
    }

    def __post_init__(self):
        self._source(0)

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        return Splits(self._source(2 * seed), self._source(2 * seed + 1) if test else None)

    def text(self, item: dict[str, str]) -> tuple[str, str]:
        return item["prompt"], item["answer"]

    def bins(self, items: Sequence[dict[str, str]]) -> dict[str, dict[str, np.ndarray]]:
        """By length, doubling from bin to bin."""
        lengths = np.array([len(item["prompt"].split()) for item in items])
        bins, most = {}, 64
        while most // 2 < lengths.max():
            bins[f"up to {most:,} words"] = (lengths > most // 2) & (lengths <= most)
            most *= 2
        bins["up to 64 words"] = lengths <= 64
        return {"length": bins}

    def _source(self, seed: int) -> NeedleSource:
        return NeedleSource(seed, UNBOUNDED, self.longest, self.shortest, dense=self.dense)
