"""Records of prompts and conversations, in the forms that files of this field have.

One reader serves both sides: prompts are read for sampling as conversations are for training. A
record is a JSON object of one of these forms. Each may have "system" and "tools" beside it.

- "messages" as OpenAI and Hugging Face have them (data/text/messages.py). "conversations" and
  "conversation" are other names. The messages may be those of ShareGPT, {"from", "value"}.
- "prompt" and its answer: "response", "completion" or "output". Each is a text or, as in trl, a
  list of messages.
- "instruction" and "input" as Alpaca has them, with the answer as above. The input follows the
  instruction after a blank line. "context" is another name of "input", and "history" is a list of
  earlier questions and answers.

A field that is not understood is named in `Record.unused`, so that it can be warned of. Fields that
only tell records apart (ASIDE), and fields without a value, are not.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from data.text.messages import Message, checked

LISTS = ("messages", "conversations", "conversation")
ANSWERS = ("response", "completion", "output")
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
# Fields that say nothing of a conversation's text. Some tell where a record comes from, others are
# for OpenAI's server. All names that end in "_id" belong to them, too.
ASIDE = {
    *("id", "idx", "index", "uid", "uuid", "source", "dataset", "split", "url", "language"),
    *("license", "timestamp", "created", "metadata", "meta"),
    *("parallel_tool_calls", "tool_choice", "function_call"),
}
# ShareGPT's names of roles, as far as they are not ours.
SHAREGPT = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
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


def parse_record(given: dict[str, Any]) -> Record:
    """Reads a record.

    Raises:
      ValueError: the object has none of the forms, or two that differ, or a part of it cannot be
        used. The error says why in one line.
    """
    given = {name: value for name, value in given.items() if value is not None}
    for name in MEDIA:
        if given.get(name):
            raise ValueError(f"{name}: this model reads text only")
    messages, used = _messages(given)
    system = given.get("system", "")
    if not isinstance(system, str):
        raise ValueError("system: expected text")
    messages = checked(messages)
    if system.strip():
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        elif messages[0]["content"] != system:
            raise ValueError("system and the first message are two system turns: keep one")
    tools = _tools(given)
    try:
        json.dumps([messages, tools], ensure_ascii=False).encode()
    except UnicodeEncodeError:  # JSON allows \ud800 alone
        raise ValueError("a \\u code is half of a surrogate pair, so it is not text") from None
    used |= ASIDE | {"system", "tools", "functions"}
    unused = (n for n, value in given.items() if n not in used and value not in ("", [], {}))
    return Record(messages, tools, tuple(n for n in unused if not n.endswith("_id")))


def not_used(path: Path, unused: Counter[str]) -> str | None:
    """A line that names the fields of a file that are not understood; None if there are none.

    Args:
      path: the file.
      unused: name of a field -> the number of records that have it.
    """
    names = [
        f"{name} (in {count} record{'s' * (count > 1)})" for name, count in unused.most_common(10)
    ]
    if len(unused) > len(names):
        names.append(f"and {len(unused) - len(names)} more")
    return f"{path}: warning: not understood, so not used: {', '.join(names)}" if names else None


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
    elif "prompt" in given:
        asked, used = _spoken(given, "prompt", "user"), {"prompt"}
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
    if not isinstance(messages, list):
        raise ValueError("expected a list of messages, at least one")
    result, waiting, count = [], [], 0
    for number, message in enumerate(messages, 1):
        if isinstance(message, dict) and "from" in message and "role" not in message:
            try:
                message = _from_sharegpt(message)
            except ValueError as error:
                raise ValueError(f"message {number}: {error}") from None
            # ShareGPT has no ids. A template needs them to name the tool of each result.
            if message.get("tool_calls"):
                waiting = []
            for call in message.get("tool_calls", ()):
                count += 1
                waiting.append(call.setdefault("id", f"call_{count}"))
            if message["role"] == "tool" and waiting:
                message.setdefault("tool_call_id", waiting.pop(0))
        result.append(message)
    return result


def _from_sharegpt(given: dict[str, Any]) -> Message:
    """A message of ShareGPT, {"from", "value"}, in our form."""
    name, value = given["from"], given.get("value")
    role = SHAREGPT.get(name, name) if isinstance(name, str) else name
    rest = {k: v for k, v in given.items() if k not in ("from", "value")}
    if name != "function_call":
        return rest | {"role": role, "content": value}
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("the value of function_call is not JSON") from None
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise ValueError("the value of function_call is no object with a name and arguments")
    return rest | {"role": role, "content": "", "tool_calls": [dict(call) for call in calls]}


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


def _tools(given: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The declarations of tools, each as {"type": "function", "function": ...}."""
    if given.get("tools") and given.get("functions"):
        raise ValueError("both tools and functions: keep one")
    name = "functions" if given.get("functions") else "tools"
    tools = given.get(name)
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (ValueError, RecursionError):
            raise ValueError(f"{name}: the text is not JSON") from None
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    ):
        raise ValueError(f"{name}: expected a list of objects")
    # The released template reads the declaration in "function".
    return tools and [
        tool if "function" in tool or "name" not in tool else {"type": "function", "function": tool}
        for tool in tools
    ]
