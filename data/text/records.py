"""Records of prompts and conversations, in the forms that files of this field have.

One reader serves both sides: prompts are read for sampling as conversations are for training. A
record is a JSON object of one of these forms. Each may have "system" and "tools" beside it. Lists
may be given as JSON texts.

- "messages" as OpenAI and Hugging Face have them (data/text/messages.py). "conversations" and
  "conversation" are other names. The messages may be those of ShareGPT, {"from", "value"}.
- "prompt" and its answer: "response", "completion" or "output"; or "user" and "assistant". Each is
  a text or, as in trl, a list of messages.
- "instruction" and "input" as Alpaca has them, with the answer as above. The input follows the
  instruction after a blank line. "context" is another name of "input", and "history" is a list of
  earlier questions and answers.

A record may also be a list of messages alone, or the text of a prompt alone. Images and videos are
parts of a content, or stand in a field of the record (data/text/media_fields.py).

If trl's KTO marks the answer of a record as bad (label false), the last message has the weight 0.
OpenAI marks answers so that are not learned. Pairs of a better and a worse answer are not read.

A field of a record or of a message that is not understood is named in `Record.unused`, so that it
can be warned of. Fields that only tell records apart (ASIDE), and fields without a value, are not.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data.text.contents import text_of
from data.text.declarations import read_tools
from data.text.media_fields import FIELDS, UNHEARD, placed
from data.text.messages import OTHER_NAMES, RESULT_IDS, Message, checked, from_text

LISTS = ("messages", "conversations", "conversation")
ANSWERS = ("response", "completion", "output", "assistant")
# The fields of messages that `checked` or templates read.
READ = {
    *("role", "content", "reasoning", "reasoning_content", "weight"),
    *("tool_calls", "tool_call_id", "tool_responses"),
}
READ_OF_TOOL = READ | {"name", *RESULT_IDS}
LABELS = ("label", "kto_tag")
PAIRS = ("chosen", "rejected", "preferred_output", "non_preferred_output")
NO_PAIRS = "a better and a worse answer are not read as a pair: write the better one as response"
# What a template would have written around messages.
_TURN = re.compile(
    r"(?:<\|turn>|<start_of_turn>|<\|im_start\|>|<\|start_header_id\|>)"
    r"(?:system|developer|user|model|assistant|tool)\b"
    r"|(?:<turn\|>|<end_of_turn>|<\|im_end\|>|<\|eot_id\|>)\s*\Z"
)
# Fields that say nothing of a conversation's text. Some tell where a record comes from, others are
# for OpenAI's server. All names that end in "_id" belong to them, too.
ASIDE = {
    *("id", "idx", "index", "uid", "uuid", "source", "dataset", "split", "url", "language"),
    *("license", "timestamp", "created", "metadata", "meta"),
    *("parallel_tool_calls", "tool_choice", "function_call"),
}


class Record(NamedTuple):
    """A conversation of a file.

    Attributes:
      messages: what `messages.checked` returns.
      tools: declarations (JSON schemas) for the template, or None.
      unused: the names of fields that have a value and are not understood.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    unused: tuple[str, ...] = ()


def parse_record(given: dict[str, Any] | list[dict[str, Any]] | str) -> Record:
    """Reads a record.

    Args:
      given: an object, a list of messages, or the text of a prompt.

    Raises:
      ValueError: the object has none of the forms, or two that differ, or a part of it cannot be
        used. The error says why in one line.
    """
    if not isinstance(given, dict):
        given = {"prompt" if isinstance(given, str) else "messages": given}
    given = {name: value for name, value in given.items() if value is not None}
    messages, used = _messages(given)
    messages = placed(given, messages)
    unused = [f"{name} of a message" for name in _unused_keys(messages)]
    system = given.get("system", "")
    if not isinstance(system, str):
        raise ValueError("system: expected text")
    messages = checked(messages)
    bad = [name for name in LABELS if given.get(name) is False]
    if bad and messages[-1]["role"] == "assistant":
        messages[-1] = messages[-1] | {"weight": 0}
    _refuse_repeated_answers(messages)
    if system.strip():
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        elif messages[0]["content"] != system:
            raise ValueError("system and the first message are two system turns: keep one")
    tools = read_tools(given)
    try:
        json.dumps([messages, tools], ensure_ascii=False).encode()
    except UnicodeEncodeError:  # JSON allows \ud800 alone
        raise ValueError("a \\u code is half of a surrogate pair, so it is not text") from None
    used |= ASIDE | {"system", "tools", "functions", *FIELDS}
    used |= {name for name in LABELS if isinstance(given.get(name), bool)}
    return Record(messages, tools, (*_without_use(given, used), *unused))


def is_record(given: Any) -> bool:
    """Whether a value is meant as a record, although something in it may be wrong."""
    names = {*LISTS, "prompt", "instruction", "user"}
    return not isinstance(given, dict) or bool(given.keys() & names)


def has_turn_tokens(messages: list[Message]) -> bool:
    """Whether messages hold turn tokens, as texts do that were made by a template."""
    return any(_TURN.search(text_of(message)) for message in messages)


def rendered(path: str | Path, count: int) -> str:
    """A line that warns of records with turn tokens.

    Args:
      path: the file, or another name of it.
      count: the number of these records.
    """
    return (
        f"{path}: warning: {count} record{'s hold' if count > 1 else ' holds'} turn tokens, as "
        "<|turn> and <start_of_turn> are: they are plain text here, and the chat template writes "
        "its own: give the texts of the messages alone"
    )


def not_used(path: str | Path, unused: Counter[str]) -> str | None:
    """A line that names the fields of a file that are not understood; None if there are none.

    Args:
      path: the file, or another name of it.
      unused: name of a field -> the number of records that have it.
    """
    names = [
        f"{name} (in {count} record{'s' * (count > 1)})" for name, count in unused.most_common(10)
    ]
    if len(unused) > len(names):
        names.append(f"and {len(unused) - len(names)} more")
    return f"{path}: warning: not understood, so not used: {', '.join(names)}" if names else None


def _refuse_repeated_answers(messages: list[Message]) -> None:
    """Raises ValueError for an answer after an answer, because templates write "4", "4" as "44"."""
    for number, (before, message) in enumerate(itertools.pairwise(messages), 2):
        both = before["role"] == message["role"] == "assistant"
        if both and not (before.get("tool_calls") or before.get("tool_responses")):
            raise ValueError(f"message {number}: the assistant answers twice: join the answers")


def _without_use(given: dict[str, Any], used: set[str]) -> list[str]:
    """The names of the fields that have a value and are neither used nor told apart by."""
    left = (n for n, value in given.items() if n not in used and value not in (None, "", [], {}))
    return [name for name in left if not name.endswith("_id")]


def _unused_keys(messages: list[Message]) -> list[str]:
    """The names of the fields of messages that are not understood, each of them once."""
    names: dict[str, None] = {}
    for number, message in enumerate(messages, 1):
        if isinstance(message, dict):
            for name in (*FIELDS, *UNHEARD):
                if message.get(name):
                    raise ValueError(f"message {number}: {name}: give it as a part of the content")
            role = str(message.get("role")).lower()
            read = READ_OF_TOOL if OTHER_NAMES.get(role, role) == "tool" else READ
            names |= dict.fromkeys(_without_use(message, read | ASIDE))
    return list(names)


def _messages(given: dict[str, Any]) -> tuple[list[Message], set[str]]:
    """The messages of a record, and the names of the fields that they are made from."""
    lists = [name for name in LISTS if name in given]
    if len(lists) > 1:
        raise ValueError(f"both {lists[0]} and {lists[1]}: keep one")
    if lists:
        messages = _listed(given[lists[0]])
        # Some data sets repeat the question or the answer beside the conversation.
        said = [m.get("content") for m in messages if isinstance(m, dict)] + [messages[:-1]]
        repeated = {name for name in ("prompt", *ANSWERS) if given.get(name) in said}
        if "prompt" in given and "prompt" not in repeated:
            raise ValueError(f"both {lists[0]} and prompt, and they differ: keep one")
        return messages, {lists[0]} | repeated
    answers = [name for name in ANSWERS if name in given]
    if len(answers) > 1:
        raise ValueError(f"both {answers[0]} and {answers[1]}: keep one")
    # Some files of Alpaca's form have the whole text as "prompt" beside it, with the answer in it.
    if "instruction" in given and ("prompt" not in given or answers == ["output"]):
        asked, used = _alpaca(given)
    elif "prompt" in given or "user" in given:
        name = "prompt" if "prompt" in given else "user"
        asked, used = _spoken(given, name, "user"), {name}
    elif given.keys() & set(PAIRS):
        raise ValueError(NO_PAIRS)
    else:
        names = ", ".join(map(repr, list(given)[:6])) or "no field"
        raise ValueError(
            "expected messages, or prompt and response, or instruction and output, or "
            f"conversations; found {names}"
        )
    answer = _spoken(given, answers[0], "assistant") if answers else []
    return asked + answer, used | set(answers)


def _listed(messages: Any) -> list[Message]:
    """A list of messages, with those of ShareGPT in our form."""
    messages = from_text(messages, "messages")
    if not isinstance(messages, list):
        raise ValueError("expected a list of messages, at least one")
    result, ids = [], map("call_{}".format, itertools.count(1))
    for number, message in enumerate(messages, 1):
        try:
            result.append(_from_sharegpt(message, ids))
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
    return result


def _from_sharegpt(given: Any, ids: Iterator[str]) -> Any:
    """A message of ShareGPT, {"from", "value"}, with our names. Others stay as they are.

    Args:
      ids: gives ids to ShareGPT's calls, which have none.
    """
    if not isinstance(given, dict):
        return given
    message = dict(given)
    for theirs, ours in (("from", "role"), ("value", "content")):
        if theirs in message and ours not in message:
            message[ours] = message.pop(theirs)
    if str(message.get("role")).lower() != "function_call":
        return message
    calls = from_text(message.get("content"), "the value of function_call")
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise ValueError("the value of function_call is no object with a name and arguments")
    called = [{"id": next(ids)} | call for call in calls]
    return message | {"role": "assistant", "content": "", "tool_calls": called}


def _spoken(given: dict[str, Any], name: str, role: str) -> list[Message]:
    """The messages in a field that holds either the text of one message or a list of messages."""
    value = given[name]
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return _listed(value)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text or a list of messages")
    return [{"role": role, "content": value}]


def _alpaca(given: dict[str, Any]) -> tuple[list[Message], set[str]]:
    """The question of Alpaca's form after its history, and the names of the fields used."""
    inputs = [name for name in ("input", "context") if name in given]
    used = {"instruction", "history", *inputs[:1]}
    texts = [given[name] for name in ("instruction", *inputs[:1])]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{' and '.join(('instruction', *inputs[:1]))}: expected text")
    turns = given.get("history", [])
    if not isinstance(turns, list) or not all(isinstance(t, list) and len(t) == 2 for t in turns):
        raise ValueError("history: expected a list of questions with their answers")
    before = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    asked = "\n\n".join(text for text in texts if text.strip())
    return [*before, {"role": "user", "content": asked}], used
