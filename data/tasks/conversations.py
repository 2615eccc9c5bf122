"""The conversations task: a file of conversations. Each one ends with the answer to learn."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from data.tasks.task import Check, Splits, Task, TaskError
from data.text.conversations import (
    TEST_SHARE,
    ChatSource,
    Conversation,
    open_conversations,
)


@dataclasses.dataclass(frozen=True)
class ConversationsTask(Task):
    """Conversations of a file. About one in ten is held out, by a hash of its text.

    Attributes:
      path: the JSONL file. data/text/conversations.py says what a line must hold.
    """

    path: str = ""

    name: ClassVar[str] = "conversations"
    title: ClassVar[str] = "conversations"
    noun: ClassVar[str] = "conversation"
    scored: ClassVar[bool] = False

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        if not self.path:
            raise TaskError("task conversations needs a file: --config.data.path=FILE.jsonl")
        splits = open_conversations(self.path, check)
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
        return asked.get("content") or "", answer.get("content") or ""

    def conversation(self, item: Conversation) -> Conversation:
        return item

    def read(self, path: str, limit: int | None, check: Check) -> list[Conversation]:
        splits = open_conversations(path, check)
        places = np.concatenate([source.places for source in splits.values()])
        every = ChatSource(
            Path(path), places[places[:, 0].argsort()][:limit]
        )  # in the file's order
        return [every[i] for i in range(len(every))]
