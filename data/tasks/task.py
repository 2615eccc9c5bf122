"""What a task is: one class in one file that a run trains on and an evaluation asks.

A task is a frozen dataclass. Its fields are its settings and have defaults; its methods say where
its items come from, how an item is asked and answered, and how an answer is scored. An item is
whatever the task wants it to be, a dict for example. data/tasks/registry.py finds a task by name.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from data.text.conversations import Conversation, conversation

# Items that a generated source can give before it repeats itself.
UNBOUNDED = 2**30

# Raises ValueError for a conversation that cannot be used, for example one that is too long.
Check = Callable[[Conversation], Any]


class TaskError(ValueError):
    """A task or a setting of it that cannot be used; the message is one line."""


class Splits(NamedTuple):
    """Random access to the items that train and to those that are held out.

    Both have __len__ and __getitem__(int). No item of one is in the other.
    """

    train: Sequence[Any]
    test: Sequence[Any] | None


class Replay(NamedTuple):
    """One item's denoising step by step: S steps of a canvas of C tokens.

    Attributes:
      pieces: S lists of C texts, the most probable token of every position.
      accepted: [S, C] bool, where a step keeps its draw.
      entropy: [S, C] float32, nats.
      expected: the texts of the right answer's tokens, at most C.
      limit: the steps that the sampler may take at most.
    """

    pieces: list[list[str]]
    accepted: np.ndarray
    entropy: np.ndarray
    expected: list[str]
    limit: int


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """Base of all tasks; see the module.

    Attributes:
      name: what --task and config.data.task call it.
      title: what reports call it.
      noun: one item, for reports: "puzzle".
      measures: what score() gives, in the order of reports: name -> title. "exact", "valid" and
        "parts" are always among them.
      scored: whether a training run scores the answers to its held-out items. If not, it answers
        one batch of them, to be looked at.
      notes: lines for the end of a report: what the measures mean, what else there is to compare.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    noun: ClassVar[str] = "example"
    measures: ClassVar[Mapping[str, str]] = {
        "exact": "answered exactly",
        "valid": "valid answers",
        "parts": "words right",
    }
    scored: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        """The items that train and those that are held out.

        Args:
          seed: random seed of generated items.
          check: is called with every conversation of a file, so that a bad line shows at once.
            Generated items need not be checked.
          test: False if held-out items are not wanted; then `Splits.test` may be None.

        Raises:
          ValueError: a setting, a file or a line of it cannot be used, or a split is empty.
          OSError: a file cannot be read.
        """

    @abc.abstractmethod
    def text(self, item: Any) -> tuple[str, str]:
        """(the user's message, the right answer)."""

    def conversation(self, item: Any) -> Conversation:
        """What is trained on: a conversation whose last message is the right answer."""
        return conversation(*self.text(item))

    def score(self, item: Any, answer: str) -> dict[str, float]:
        """Scores an answer, given as text without thoughts and special tokens.

        Returns:
          measure -> share in 0..1. Here exact: the answer is the right one but for white space at
          its ends; valid: it is not blank; parts: the share of the right answer's words that stand
          at their place.
        """
        wanted = self.text(item)[1].strip()
        words, found = wanted.split(), answer.split()
        right = sum(word == other for word, other in zip(words, found, strict=False))
        return {
            "exact": float(answer.strip() == wanted),
            "valid": float(bool(found)),
            "parts": right / len(words) if words else float(not found),
        }

    def held_out(self, seed: int, counts: Sequence[int], check: Check) -> list[Any]:
        """Items of the held-out split for an evaluation.

        Args:
          seed, check: as of open.
          counts: how many. A task whose settings name several groups takes one number for all of
            them or one for each; others take one number.

        Raises:
          ValueError: as open; or there are fewer items.
        """
        if len(counts) != 1:
            raise TaskError(f"task {self.name} has one group of items, not {len(counts)}")
        test = self.open(seed, check).test
        if counts[0] > len(test):
            raise TaskError(f"only {len(test)} {self.noun}s are held out, not {counts[0]}")
        return [test[i] for i in range(counts[0])]

    def read(self, path: str, limit: int | None, check: Check) -> list[Any]:
        """All items of a file, or its first `limit`, for an evaluation.

        Raises:
          ValueError, OSError: the task has no files, or as open.
        """
        raise TaskError(f"task {self.name} has no files: its {self.noun}s are generated")

    def bins(self, items: Sequence[Any]) -> dict[str, dict[str, np.ndarray]]:
        """How a report is divided: title -> name of a bin -> bool [N]. The first title's bins are
        also those of plots. Bins without items are left out of reports."""
        return {}

    def columns(self, item: Any) -> dict[str, str]:
        """How answers.csv names an item; the first column identifies it."""
        prompt, answer = self.text(item)
        return {"prompt": prompt, "expected": answer}

    def shown(self, answer: str) -> str:
        """How answers.csv writes an answer."""
        return answer

    def picture(self, item: Any, replay: Replay) -> bytes | None:
        """A PNG of an item's denoising; None if the task draws none.

        Raises:
          ValueError: the tokenizer cuts answers in a way that cannot be drawn.
        """
        return None
