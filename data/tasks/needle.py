"""The needle task: one number in a long text, asked for at its end.

The needle is a word with five digits after it. The rest of the text is filler: random words, some
of them with five digits after them too. The question names the needle's word. That word does not
occur in the filler, so it alone tells which number is asked for.
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
# The share of the filler's words that have digits. In a dense filler it is the smallest share.
NUMBERS = 0.04
# Tokens of our tokenizer, in the turn format: a prompt without its filler, and the shortest prompt.
REST = 24
SHORTEST = 32


class NeedleSource(SeededSource):
    """Needles in texts of different lengths, with random access.

    A length is that of a whole prompt, in tokens of our tokenizer and in the turn format. Lengths
    are drawn log-uniformly: as many lie between 100 and 200 as between 200 and 400.

    Args:
      seed: random seed.
      size: the number of items.
      longest: the longest prompt, in tokens.
      shortest: the shortest prompt, in tokens; at least SHORTEST.
      anywhere: whether the needle may stand anywhere in the text. Otherwise it stands at its start.
      dense: whether more of the filler's words have digits. For each text their share is drawn
        log-uniformly between NUMBERS and 1. Short texts are then as hard as much longer ones.

    Raises:
      ValueError: the range of lengths is empty, or begins below SHORTEST.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        longest: int,
        shortest: int = SHORTEST,
        anywhere: bool = True,
        dense: bool = False,
    ) -> None:
        if not SHORTEST <= shortest <= longest:
            raise ValueError(
                f"prompts of {shortest} to {longest} tokens: a needle takes {SHORTEST} or more"
            )
        super().__init__(seed, size)
        self.range, self.anywhere, self.dense = (shortest, longest), anywhere, dense

    def draw(self, rng: np.random.Generator) -> dict[str, str]:
        """Draws an item: {"prompt", "answer"}."""
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
    """Draws filler.

    Args:
      rng: source of random numbers.
      without: the word that must not occur.
      length: the number of words and digits.
      share: the share of words with DIGITS digits after them. Overlapping numbers are left out.
    """
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
    """The needle task. Training items have even seeds and held-out items have odd seeds.

    Attributes:
      longest: the longest prompt, in tokens.
      shortest: the shortest prompt, in tokens.
      dense: whether the filler has more numbers (NeedleSource).

    Raises:
      ValueError: the range of lengths cannot be used.
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

    def __post_init__(self) -> None:
        self._source(0)  # checks the settings

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        return Splits(self._source(2 * seed), self._source(2 * seed + 1) if test else None)

    def text(self, item: dict[str, str]) -> tuple[str, str]:
        return item["prompt"], item["answer"]

    def bins(self, items: Sequence[dict[str, str]]) -> dict[str, dict[str, np.ndarray]]:
        """Bins by length in words. Each bin reaches to twice the length of the one before."""
        lengths = np.array([len(item["prompt"].split()) for item in items])
        bins, most = {}, 64
        while most // 2 < lengths.max():
            bins[f"up to {most:,} words"] = (lengths > most // 2) & (lengths <= most)
            most *= 2
        bins["up to 64 words"] = lengths <= 64
        return {"length": bins}

    def _source(self, seed: int) -> NeedleSource:
        """The items of a seed."""
        return NeedleSource(seed, UNBOUNDED, self.longest, self.shortest, dense=self.dense)
