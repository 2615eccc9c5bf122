"""The conversations task: a file of conversations. Each one ends with the answer to learn."""

import dataclasses
import typing
from pathlib import Path
from typing import ClassVar

import numpy as np

from data.tasks.task import Check, Splits, Task, TaskError
from data.text.contents import text_of
from data.text.conversations import (
    TEST_SHARE,
    ChatSource,
    Conversation,
    OnError,
    open_conversations,
)


@dataclasses.dataclass(frozen=True)
class ConversationsTask(Task):
    """Conversations of a file. About one in ten is held out, by a hash of its text.

    Attributes:
      path: the file: JSON records, as an array or one in each line (data/text/records.py).
      on_error: what happens to records that cannot be trained on: "stop" makes them an error,
        "skip" leaves them out and lists them.

    Raises:
      TaskError: `on_error` is something else.
    """

    path: str = ""
    on_error: str = "stop"

    name: ClassVar[str] = "conversations"
    title: ClassVar[str] = "conversations"
    noun: ClassVar[str] = "conversation"
    scored: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.on_error not in typing.get_args(OnError):
            raise TaskError(f"on_error must be 'stop' or 'skip', not {self.on_error!r}")

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        if not self.path:
            raise TaskError("task conversations needs a file: --config.data.path=FILE.jsonl")
        splits = open_conversations(self.path, check, self.on_error)
        if not len(splits["train"]):
            raise TaskError(f"{self.path}: every conversation is held out: give more conversations")
        if test and not len(splits["test"]):
            raise TaskError(
                f"{self.path}: of {len(splits['train'])} conversations none fell to the "
                f"{TEST_SHARE:.0%} held out: give more conversations, or --config.eval.every=0"
            )
        return Splits(splits["train"], splits["test"] if test else None)

    def text(self, item: Conversation) -> tuple[str, str]:
        """(the last message before the answer, the answer)."""
        *_, asked, answer = item.messages
        return text_of(asked), text_of(answer)

    def conversation(self, item: Conversation) -> Conversation:
        return item

    def read(self, path: str, limit: int | None, check: Check) -> list[Conversation]:
        splits = open_conversations(path, check, self.on_error)
        places = np.concatenate([source.places for source in splits.values()])
        every = ChatSource(
            Path(path), places[places[:, 0].argsort()][:limit]
        )  # in the file's order
        return [every[i] for i in range(len(every))]
