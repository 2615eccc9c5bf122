"""Conversations to train on, and files of them.

The last message of a conversation is the answer to learn. data/text/records.py says what a record
of a file may look like, and data/text/record_file.py how records lie in a file. If the answer has
thoughts ("reasoning" or "reasoning_content"), the model learns to write them first
(`ChatTemplate.example`).
"""

import collections
import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from data.text.contents import sources, text_of, with_sources
from data.text.messages import Message
from data.text.packing import TooLong
from data.text.record_file import Item, kind_of, parse, scan
from data.text.records import (
    NO_PAIRS,
    PAIRS,
    Record,
    has_turn_tokens,
    not_used,
    parse_record,
    rendered,
)
from files.printable import tell

Split = Literal["train", "test"]
OnError = Literal["stop", "skip"]

TEST_SHARE = 0.1  # the share of different conversations that is held out, about
_URL = re.compile("data:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
NAMED = {"stop": 3, "skip": 10}  # the number of faults that are quoted


class Conversation(NamedTuple):
    """A conversation that ends with the answer to learn.

    Attributes:
      messages: what `messages.checked` returns. The last message is the assistant's.
      tools: declarations (JSON schemas) for the template, or None.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


def conversation(user: str, answer: str, system: str | None = None) -> Conversation:
    """The conversation of one question and its answer, after a system message if there is one."""
    head = [] if system is None else [{"role": "system", "content": system}]
    asked = {"role": "user", "content": user}
    return Conversation([*head, asked, {"role": "assistant", "content": answer}])


def parse_conversation(text: bytes) -> Conversation:
    """The conversation in the bytes of a record.

    Raises:
      ValueError: the record is not a conversation with an answer. The error says why in one line.
    """
    return with_answer(parse_record(parse(text)))


def with_answer(record: Record) -> Conversation:
    """The conversation of a record that can be trained on.

    Raises:
      ValueError: there is no answer at the end, or nothing before it.
    """
    *before, last = record.messages
    if last["role"] != "assistant":
        if {*PAIRS} & {*record.unused}:
            raise ValueError(f"no answer: {NO_PAIRS}")
        why = f"no answer: the last message is the {last['role']}'s, not the assistant's"
        raise ValueError(why + (f"; not used: {', '.join(record.unused)}" * bool(record.unused)))
    if not before:
        raise ValueError("there is no question before the answer")
    if not text_of(last).strip() and not last.get("tool_calls"):
        raise ValueError("no answer: the last message is blank")
    if last.get("weight") == 0:  # OpenAI's mark of a message that is not learned
        raise ValueError("the answer is marked as not to be learned, by weight 0 or label false")
    return Conversation(record.messages, record.tools)


def found_from(conversation: Conversation, folder: Path) -> Conversation:
    """The conversation of a file, with the paths of its images and videos as that file means them.

    Args:
      conversation: as parse_conversation gives it.
      folder: the folder of the file, where relative paths begin.
    """
    given = sources(conversation.messages)
    if not given:
        return conversation
    paths = [source if _URL.match(source) else str(folder / source) for _, source in given]
    return conversation._replace(messages=with_sources(conversation.messages, paths))


def split_of(conversation: Conversation) -> Split:
    """The split of a conversation, by a hash of its messages and tools.

    Equal conversations are therefore always in the same split.
    """
    said = [[m["role"], m.get("content"), m.get("tool_calls")] for m in conversation.messages]
    told = json.dumps([said, conversation.tools], sort_keys=True)
    number = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8])
    return "test" if number < TEST_SHARE * 2**64 else "train"


class ChatSource:
    """Random access to the conversations in some records of a file, each read when asked for.

    Args:
      path: the file.
      places: int64 [N, 2], the offset and the length of each record in bytes.
    """

    def __init__(self, path: Path, places: np.ndarray):
        self.path, self.places = path, places

    def __repr__(self) -> str:
        return f"ChatSource({str(self.path)!r}, {len(self)})"

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Conversation:
        """Raises IndexError, ValueError if the file has changed, or OSError if it is gone."""
        start, size = map(int, self.places[index])
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(size)
        try:
            return found_from(parse_conversation(text), self.path.parent)
        except ValueError:
            raise ValueError(f"{self.path}: the file has changed since the run began") from None


def open_conversations(
    path: str | Path, check: Callable[[Conversation], Any], on_error: OnError = "stop"
) -> dict[Split, ChatSource]:
    """The two splits of a file of records, each in the file's order. A split may be empty.

    Fields of records that are not understood are named on stderr.

    Args:
      path: the file. Only the places of its records are kept in memory.
      check: is called with each conversation. It raises ValueError for a conversation that cannot
        be trained on.
      on_error: what happens to records that are not conversations or fail the check. "stop" makes
        them an error. "skip" leaves them out and says so on stderr, with the first ten of them.
        The others are in the same split either way.

    Raises:
      ValueError: the file has no records that can be trained on, is no file of records, or is a
        damaged array; or `on_error` is "stop" and some records cannot be trained on. The error then
        gives the number of these records, the fault of the first three of them, and the settings
        that would fit the longest.
      OSError: the file cannot be read.
    """
    path = Path(path)
    places = {"train": array("q"), "test": array("q")}
    faults, broken, count, marked = [], 0, 0, 0
    needed: dict[str, int] = {}
    unused = collections.Counter[str]()
    with path.open("rb") as file:
        for item in _items(path, file):
            count += 1
            try:
                if item.fault:
                    raise ValueError(item.fault)
                record = parse_record(item.value)
                unused.update(record.unused)
                marked += has_turn_tokens(record.messages)
                conversation = with_answer(record)
                check(found_from(conversation, path.parent))
                places[split_of(conversation)].extend((item.start, item.size))
            except ValueError as error:
                broken += 1
                if broken <= NAMED[on_error]:
                    faults.append(f"{item.place}: {' '.join(str(error).split())}")
                if isinstance(error, TooLong):
                    needed[error.setting] = max(error.needed, needed.get(error.setting, 0))
    if not count:
        raise ValueError(f"{path}: no conversations: the file has no records")
    if broken > len(faults):
        faults.append(f"and {broken - len(faults)} more")
    share = f"{broken} of {count} record{'s' * (count != 1)}"
    room = ", ".join(f"{setting}={least}" for setting, least in sorted(needed.items()))
    room = f"make room for the longest: {room}" if room else ""
    if broken and (on_error == "stop" or broken == count):
        ways = ["correct or remove them"]
        if on_error == "stop" and broken < count:
            ways.append(
                "leave them out with --config.data.on_error=skip (train.evaluate: --on_error=skip)"
            )
        raise ValueError(
            f"{path}: {share} cannot be trained on ({'; '.join(faults)}): "
            f"{', or '.join([*ways, room] if room else ways)}"
        )
    if broken:
        tell(f"{path}: {share} {'are' if broken > 1 else 'is'} left out (on_error=skip)")
        for fault in faults:
            tell(f"  {fault}")
        if room:
            tell(f"  to keep the long ones, {room}")
    if line := not_used(path, unused):
        tell(line)
    if marked:
        tell(rendered(path, marked))
    return {
        split: ChatSource(path, np.array(flat, np.int64).reshape(-1, 2))
        for split, flat in places.items()
    }


def _items(path: Path, file: BinaryIO) -> Iterator[Item]:
    """The records of a file; raises ValueError, with the name of the file, if it has none."""
    try:
        kind = kind_of(file)
        if kind == "text":
            raise ValueError(
                "expected JSON records, as an array or one object in each line, but the file is "
                "plain text"
            )
        yield from scan(file, kind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
