"""Conversations to train on, whose last message is the answer; and files of them, line by line.

A line is a JSON object with "messages" (see `data.chat`), or with "prompt", "response" and perhaps
"system", all text; and perhaps with "tools". What else it holds is left alone. Thoughts that the
answer has as "reasoning" or "reasoning_content" are learned before it (`ChatTemplate.example`).
"""

import hashlib
import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data.text.chat import Message, checked
from data.text.packing import TooLong

Split = Literal["train", "test"]

TEST_SHARE = 0.1  # of different conversations, about
NAMED = 3  # broken lines that an error quotes
# What a message may follow; None is the beginning.
FOLLOWS = {
    "system": (None,),
    "user": (None, "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


class Conversation(NamedTuple):
    """messages as `chat.checked` returns them, the last the assistant's; tools for the template."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


def conversation(user: str, answer: str, system: str | None = None) -> Conversation:
    """One question and its answer."""
    head = [] if system is None else [{"role": "system", "content": system}]
    asked = {"role": "user", "content": user}
    return Conversation([*head, asked, {"role": "assistant", "content": answer}])


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object in a line; raises ValueError with what is there instead."""
    try:
        given = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"not JSON: {error.msg} at character {error.pos + 1}"
        raise ValueError(what if line.strip() else "the line is empty") from None
    except (ValueError, RecursionError) as error:  # a number too long, brackets too deep
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError("expected an object")
    return given


def parse_tools(given: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The tools that a line declares; raises ValueError if they are no list of objects."""
    tools = given.get("tools")
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    ):
        raise ValueError("tools: expected a list of objects")
    return tools


def parse_conversation(line: bytes) -> Conversation:
    """The conversation in a line of a file; raises ValueError with what is wrong with it."""
    try:
        given = parse_object(line.removesuffix(b"\n").removesuffix(b"\r").decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    tools = parse_tools(given)
    if ("messages" in given) == ("prompt" in given):
        raise ValueError("expected either messages, or prompt and response")
    if "messages" in given:
        messages = given["messages"]
    else:
        texts = [given["prompt"], given.get("response"), given.get("system")]
        for name, text in zip(("prompt", "response", "system"), texts, strict=True):
            if not isinstance(text, str) and (name != "system" or text is not None):
                raise ValueError(f"{name}: expected text")
        messages = conversation(*texts).messages
    messages = checked(messages)
    before = None
    for number, message in enumerate(messages, 1):
        if before not in FOLLOWS[message["role"]]:
            place = f"follows {before}" if before else "comes first"
            raise ValueError(f"message {number}: {message['role']} {place}")
        before = message["role"]
    if before != "assistant":
        raise ValueError(f"no answer: the last message is the {before}'s, not the assistant's")
    if not (messages[-1].get("content") or "").strip() and not messages[-1].get("tool_calls"):
        raise ValueError("no answer: the last message is blank")
    try:
        json.dumps([messages, tools], ensure_ascii=False).encode()
    except UnicodeEncodeError:  # \ud800 is JSON
        raise ValueError("half of a surrogate pair, which is no text") from None
    return Conversation(messages, tools)


def split_of(conversation: Conversation) -> Split:
    """Where a conversation belongs, by what is said in it: equal ones to the same split."""
    said = [[m["role"], m.get("content"), m.get("tool_calls")] for m in conversation.messages]
    told = json.dumps([said, conversation.tools], sort_keys=True)
    number = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8])
    return "test" if number < TEST_SHARE * 2**64 else "train"


class ChatSource:
    """The conversations of some lines of a file by index, for grain; each is read when asked for.

    Args:
      path: the file.
      places: int64 [N, 2], where a line begins and how long it is, in bytes.
    """

    def __init__(self, path: Path, places: np.ndarray):
        self.path, self.places = path, places

    def __repr__(self) -> str:
        return f"ChatSource({str(self.path)!r}, {len(self)})"

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Conversation:
        """Raises ValueError if the file has changed, OSError if it is gone."""
        start, size = map(int, self.places[index])
        with self.path.open("rb") as file:
            file.seek(start)
            line = file.read(size)
        try:
            return parse_conversation(line)
        except ValueError:
            raise ValueError(f"{self.path}: it has changed since the run began") from None


def open_conversations(
    path: str | Path, check: Callable[[Conversation], Any]
) -> dict[Split, ChatSource]:
    """The two splits of a JSONL file, in its order; TEST_SHARE says how large. They may be empty.

    Args:
      path: the file. Only the places of its lines are kept.
      check: is called with each conversation; it raises ValueError if it cannot be trained on.

    Raises:
      ValueError: there is no line, or lines that are no conversations or fail the check: how
          many, the first NAMED of them with what is wrong, and what would fit the longest.
      OSError: the file cannot be read.
    """
    path = Path(path)
    places = {"train": array("q"), "test": array("q")}
    faults, broken, number, start = [], 0, 0, 0
    needed: dict[str, int] = {}
    with path.open("rb") as file:
        if file.read(3) == b"\xef\xbb\xbf":
            start = 3
        file.seek(start)
        for number, line in enumerate(file, 1):
            try:
                conversation = parse_conversation(line)
                check(conversation)
                places[split_of(conversation)].extend((start, len(line)))
            except ValueError as error:
                broken += 1
                if broken <= NAMED:
                    faults.append(f"line {number}: {' '.join(str(error).split())}")
                if isinstance(error, TooLong):
                    needed[error.setting] = max(error.needed, needed.get(error.setting, 0))
            start += len(line)
    if not number:
        raise ValueError(f"{path}: no conversations")
    if broken:
        if broken > NAMED:
            faults.append(f"and {broken - NAMED} more")
        room = ", ".join(f"{setting} {least}" for setting, least in sorted(needed.items()))
        raise ValueError(
            f"{path}: {broken} of {number} lines cannot be trained on ({'; '.join(faults)}): "
            f"correct or remove them{f', or make room for the longest: {room}' if room else ''}"
        )
    return {
        split: ChatSource(path, np.array(flat, np.int64).reshape(-1, 2))
        for split, flat in places.items()
    }
