"""Conversations to train on, and JSONL files with one conversation in each line.

The last message of a conversation is the answer to learn. A line is a JSON object. It has either
"messages" (data/text/chat.py says what a message is), or the texts "prompt" and "response" and, if
wanted, "system". It may also have "tools". All other fields are ignored. If the answer has thoughts
("reasoning" or "reasoning_content"), the model learns to write them first (`ChatTemplate.example`).
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

TEST_SHARE = 0.1  # the share of different conversations that is held out, about
NAMED = 3  # the number of broken lines that an error quotes
# The roles that a role may follow. None stands for the beginning of the conversation.
FOLLOWS = {
    "system": (None,),
    "user": (None, "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


class Conversation(NamedTuple):
    """A conversation that ends with the answer to learn.

    Attributes:
      messages: what `chat.checked` returns. The last message is the assistant's.
      tools: declarations (JSON schemas) for the template, or None.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


def conversation(user: str, answer: str, system: str | None = None) -> Conversation:
    """The conversation of one question and its answer, after a system message if there is one."""
    head = [] if system is None else [{"role": "system", "content": system}]
    asked = {"role": "user", "content": user}
    return Conversation([*head, asked, {"role": "assistant", "content": answer}])


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object in a line. Raises ValueError if the line holds anything else."""
    try:
        given = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"not JSON: {error.msg} at character {error.pos + 1}"
        raise ValueError(what if line.strip() else "the line is empty") from None
    except (ValueError, RecursionError) as error:  # too long a number, or too deep brackets
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError("expected an object")
    return given


def parse_tools(given: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The tools that a line declares. Raises ValueError if they are not a list of objects."""
    tools = given.get("tools")
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    ):
        raise ValueError("tools: expected a list of objects")
    return tools


def parse_conversation(line: bytes) -> Conversation:
    """The conversation in a line of a file.

    Raises:
      ValueError: the line is not a conversation with an answer. The error says why in one line.
    """
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
    except UnicodeEncodeError:  # JSON allows \ud800 alone
        raise ValueError("a \\u code is half of a surrogate pair, so it is not text") from None
    return Conversation(messages, tools)


def split_of(conversation: Conversation) -> Split:
    """The split of a conversation, by a hash of its messages and tools.

    Equal conversations are therefore always in the same split.
    """
    said = [[m["role"], m.get("content"), m.get("tool_calls")] for m in conversation.messages]
    told = json.dumps([said, conversation.tools], sort_keys=True)
    number = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8])
    return "test" if number < TEST_SHARE * 2**64 else "train"


class ChatSource:
    """Random access to the conversations in some lines of a file, each read when asked for.

    Args:
      path: the file.
      places: int64 [N, 2], the offset and the length of each line in bytes.
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
            line = file.read(size)
        try:
            return parse_conversation(line)
        except ValueError:
            raise ValueError(f"{self.path}: the file has changed since the run began") from None


def open_conversations(
    path: str | Path, check: Callable[[Conversation], Any]
) -> dict[Split, ChatSource]:
    """The two splits of a JSONL file, each in the file's order. A split may be empty.

    Args:
      path: the file. Only the places of its lines are kept in memory.
      check: is called with each conversation. It raises ValueError for a conversation that cannot
        be trained on.

    Raises:
      ValueError: the file is empty, or some lines are not conversations or fail the check. The
        error gives the number of these lines, the fault of the first NAMED of them, and the
        settings that would fit the longest.
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
        raise ValueError(f"{path}: no conversations: the file is empty")
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
