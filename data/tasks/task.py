"""The base class of all tasks. A training run learns a task, and an evaluation asks it.

A task is a frozen dataclass in a file of its own. Its fields are its settings and have defaults.
Its methods say where its items come from, how an item is asked and answered, and how an answer is
scored. An item may be any object, for example a dict. data/tasks/registry.py finds a task by name.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from data.text.conversations import Conversation, conversation
from data.text.parts import Part

# The number of items of a source that generates them.
UNBOUNDED = 2**30

# Raises ValueError for a conversation that cannot be used, for example one that is too long.
Check = Callable[[Conversation], Any]


class TaskError(ValueError):
    """A task, or a setting of it, cannot be used. The message is one line."""


class Splits(NamedTuple):
    """The items of a task, divided in two. No item is in both parts.

    Attributes:
      train: the items that are trained on.
      test: the items that are held out; None if they were not asked for.
    """

    train: Sequence[Any]
    test: Sequence[Any] | None


class Replay(NamedTuple):
    """The denoising of one item step by step: S steps of a canvas of C tokens.

    Attributes:
      pieces: S lists of C texts: the most probable token of each position at each step.
      accepted: [S, C] bool, the positions that keep the token that was drawn at the step.
      entropy: [S, C] float32, entropy of the token's distribution in nats.
      expected: texts of the tokens of the right answer, which may be longer than the canvas.
      limit: the largest number of steps that the sampler may take.
    """

    pieces: list[list[str]]
    accepted: np.ndarray
    entropy: np.ndarray
    expected: list[str]
    limit: int


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """The base class of all tasks.

    Attributes:
      name: the task's name for --task and config.data.task.
      title: the task's name in reports.
      noun: what reports call one item, such as "puzzle".
      measures: the measures that `score` gives, in the order of reports: name -> title. "exact",
        "valid" and "parts" must be among them. "exact" is what reports count as right.
        "other_format", if a task has it, counts answers that are right but not written as the task
        asks.
      generated: names of the settings that say how items are generated. They have no meaning for
        the items of a file, whether it is given as the setting "path" or in an evaluation.
      scored: whether a training run scores the answers to its held-out items. If not, it answers
        one batch of them, so that an answer can be looked at.
      published: figures of other models for a report to show beside ours: name of a bin of the
        first division that `bins` gives -> {"who": what the column is called, "exact": a share of
        right answers, "steps": effective denoising steps}.
      notes: lines at the end of reports, such as the meaning of the measures.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    noun: ClassVar[str] = "example"
    measures: ClassVar[Mapping[str, str]] = {
        "exact": "answered exactly",
        "valid": "valid answers",
        "parts": "words right",
    }
    generated: ClassVar[tuple[str, ...]] = ()
    scored: ClassVar[bool] = True
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    notes: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        """Opens the items that are trained on and those that are held out.

        Args:
          seed: random seed of generated items.
          check: is called with each conversation of a file, so that a bad line is found at once.
            Generated items need not be checked.
          test: False if held-out items are not wanted; then `Splits.test` may be None.

        Raises:
          ValueError: a setting, a file or a line of it cannot be used, or a split is empty.
          OSError: a file cannot be read.
        """

    @abc.abstractmethod
    def text(self, item: Any) -> tuple[str, str]:
        """The text of an item: (the user's message, the right answer)."""

    def conversation(self, item: Any) -> Conversation:
        """The conversation that is trained on. Its last message is the right answer."""
        return conversation(*self.text(item))

    def parts(self, item: Any) -> list[Part] | None:
        """The parts of an item's answer, if some of it is given (data/text/parts.py).

        Their texts together are the right answer. A task gives parts for all of its items, or for
        none. The losses count only tokens that are not kept, and an evaluation gives the sampler
        what is given.

        Returns:
          the parts in order, or no parts if nothing is given of this item's answer; None if nothing
          is given of any answer of the task.
        """
        return None

    def score(self, item: Any, answer: str) -> dict[str, float]:
        """Scores an answer.

        Args:
          item: the item that was asked.
          answer: the text of the answer, without thoughts and special tokens.

        Returns:
          name of a measure -> value, 0 to 1. A task that does not override this method has:
            exact: 1 if the answer is the right one; white space at the ends does not matter.
            valid: 1 if the answer is not blank.
            parts: the share of the right answer's words that stand at their places.
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
        """Takes held-out items for an evaluation.

        Args:
          seed: random seed of generated items.
          counts: the number of items. If the settings name several groups of items, it may be one
            number for all groups or one for each group.
          check: is called with each conversation of a file, as in `open`.

        Raises:
          ValueError: a setting, a file or a line of it cannot be used, or there are fewer items.
          OSError: a file cannot be read.
        """
        if len(counts) != 1:
            raise TaskError(
                f"task {self.name} has one group of items: give one number, not {len(counts)}"
            )
        test = self.open(seed, check).test
        if counts[0] > len(test):
            raise TaskError(f"only {len(test)} {self.noun}s are held out, not {counts[0]}")
        return [test[i] for i in range(counts[0])]

    def read(self, path: str, limit: int | None, check: Check) -> list[Any]:
        """Reads the items of a file for an evaluation.

        Args:
          path: the file.
          limit: the number of items to read from the start of the file; None for all.
          check: is called with each conversation, as in `open`.

        Raises:
          ValueError: the task has no files, or the file or a line of it cannot be used.
          OSError: the file cannot be read.
        """
        raise TaskError(f"task {self.name} has no files: its {self.noun}s are generated")

    def bins(self, items: Sequence[Any]) -> dict[str, dict[str, np.ndarray]]:
        """Divides items into bins, for a report.

        Args:
          items: N items.

        Returns:
          title of a division -> name of a bin -> [N] bool, which items are in the bin. Plots show
          the bins of the first title. Reports leave out bins without items.
        """
        return {}

    def columns(self, item: Any) -> dict[str, str]:
        """The columns of answers.csv that describe an item. The first one must identify it."""
        prompt, answer = self.text(item)
        return {"prompt": prompt, "expected": answer}

    def shown(self, answer: str) -> str:
        """The text of an answer in answers.csv."""
        return answer

    def view(self, item: Any, expected: Sequence[str]) -> dict[str, Any] | None:
        """How a page draws the denoising of an item (docs/FORMATS.md, Records of denoising).

        Args:
          item: the item.
          expected: texts of the tokens of the right answer.

        Returns:
          the field `view` of a record; None for text.
        """
        return None

    def view_of_message(
        self, message: str, pieces: Callable[[str], list[str]]
    ) -> dict[str, Any] | None:
        """How a page draws the answer to a user's message, if the message asks an item of the task.

        Unlike `view`, it knows no right answer.

        Args:
          message: the message.
          pieces: gives the texts of the tokens of a text.

        Returns:
          the field `view` of a record; None for text.
        """
        return None

    def picture(self, item: Any, replay: Replay) -> bytes | None:
        """Draws the denoising of an item.

        Returns:
          the bytes of a PNG file; None if the task has no such picture, or if this answer cannot be
          drawn.
        """
        return None
