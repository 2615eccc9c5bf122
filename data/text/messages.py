"""Messages as OpenAI, Hugging Face and Google write them, brought to one form.

A message is a dict. It has a "role" (ROLES, or one of their OTHER_NAMES), a "content", and whatever
else a template reads. `checked` is what makes the form of a message certain, so that templates need
to know only one form:

- The role is in small letters.
- The content is a text. A list of parts becomes the text of the parts. If there are images or
  videos among them, it stays a list (contents.py).
- A call of a tool is {"function": {"name": text, "arguments": object}}. The arguments may be given
  as a JSON text, as OpenAI does, and the function without the dict around it. Other names of the
  arguments are in ARGUMENTS. The older field "function_call" becomes a list with one call.
- The result of a tool may be given as an object, a list or a number. It becomes a JSON text.
- A result and its call have the same id if there is more than one call. Released templates find the
  name of a result's tool by the id. Other names of a result's id are in RESULT_IDS.
- A thought at the beginning of the model's content becomes its "reasoning" (thoughts.py). So do the
  parts of its content that are thoughts.
"""

import json
from typing import Any

from data.text.contents import joined
from data.text.thoughts import add_thoughts, with_reasoning
from files.json_text import read_json, why_not_json

Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
OTHER_NAMES = {
    "developer": "system",
    **dict.fromkeys(("model", "gpt", "chatgpt", "bing", "bard"), "assistant"),
    "human": "user",
    **dict.fromkeys(("function", "observation", "function_response", "tool_response"), "tool"),
}
THOUGHT_PARTS = ("thinking", "reasoning")
# What OpenAI, LangChain, Anthropic and Google call the arguments of a call.
ARGUMENTS = ("arguments", "parameters", "input", "args")
# What Anthropic, OpenAI's newer interface and MCP call the id of a result's call.
RESULT_IDS = ("tool_use_id", "call_id", "toolCallId", "id")
# Other fields of a call, which say nothing about its arguments.
BESIDE_ARGUMENTS = {"name", "id", "call_id", "type", "index", "status", "description"}


def checked(messages: list[Message]) -> list[Message]:
    """Checks messages, and brings them to the form that templates read.

    Returns:
      A new list of new messages. Messages that have the form already are equal to those given.

    Raises:
      ValueError: there are no messages, or one of them cannot be used: it is not a dict, its role
        is unknown, its content is no text or parts (only a model's message with tool calls needs no
        content), it is a blank message of the user, a tool call has no name, has arguments that
        are not an object, or has the id of a call without a result, or a tool's result belongs to
        no call. The error gives the message's number, counted from 1.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("expected a list of messages, at least one")
    result, calls, waiting, latest = [], [], [], []
    for number, message in enumerate(messages, 1):
        try:
            result.append(message := _checked(message))
            if message["role"] == "tool":
                call = _pair(message, calls, waiting, f"call_{number}")
                if call and not any(call is later for later in latest) and not message.get("name"):
                    message["name"] = call["function"]["name"]  # templates look in one message
            else:
                is_model = message["role"] == "assistant"
                latest = message.get("tool_calls") or [] if is_model else []
                in_a_row = latest and len(result) > 1 and result[-2]["role"] == "assistant"
                calls = [*(waiting if in_a_row else []), *latest]
                waiting = list(calls)
                ids = [call["id"] for call in calls if call.get("id")]
                if any(ids.count(name) > 1 for name in ids):
                    raise ValueError("two tool calls have the same id")
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
    return result


def _pair(result: Message, calls: list[Any], waiting: list[Any], new: str) -> dict | None:
    """Gives a tool's result and its call the same id, where their order alone does not tell.

    Args:
      result: the message with the result.
      calls: the calls of the model's messages in a row before it.
      waiting: those of the calls that have no result yet. The result's call is taken out.
      new: an id to give them if neither has one.

    Returns:
      the call; None if the result has only a name, and the call is not known.

    Raises:
      ValueError: the result belongs to no call.
    """
    if not calls:
        raise ValueError("a tool's result, but the model's message before it calls no tool")
    ids = [call.get("id") for call in calls]
    others = [result[n] for n in RESULT_IDS if result.get(n) and (n != "id" or result[n] in ids)]
    given, name = result.get("tool_call_id") or next(iter(others), None), result.get("name")
    named = [call for call in waiting if name in (None, "", call["function"]["name"])]
    fit = [call for call in calls if call.get("id") == given] if given else named
    fit = fit or [call for call in named if not call.get("id")]
    if not fit:
        if name and (given or len(calls) == 1):  # templates use its own name then
            return None
        raise ValueError("a tool's result that belongs to no tool call before it")
    call = next((call for call in fit if call in waiting), fit[0])
    if call in waiting:
        waiting.remove(call)
    if given or len(calls) > 1 or (call.get("id") and not name):
        call["id"] = result["tool_call_id"] = given or call.get("id") or new
    return call


def _checked(message: Message) -> Message:
    if not isinstance(message, dict):
        raise ValueError(f"expected role and content, got {type(message).__name__}")
    role = message.get("role")
    if isinstance(role, str):
        role = OTHER_NAMES.get(role.lower(), role.lower())
    if role not in ROLES:
        if role is None:
            raise ValueError("it has no role")
        raise ValueError(f"role {role!r} is none of {', '.join((*ROLES, *OTHER_NAMES))}")
    message = message | {"role": role}
    if role == "assistant":
        message = _with_calls(message)
    content = message.get("content")
    parts = isinstance(content, list | tuple) and (role != "tool" or _has_parts(content))
    if role == "tool" and not parts and content is not None and not isinstance(content, str):
        content = message["content"] = json.dumps(content, ensure_ascii=False)
    if parts:
        if role == "assistant":
            content = _without_thoughts(message, content)
        content = message["content"] = joined(content, role)
    if content is None and role == "assistant" and message.get("tool_calls"):
        return message
    if content is None:
        raise ValueError("it has no content")
    if not parts and not isinstance(content, str):
        raise ValueError(f"content must be text, got {type(content).__name__}")
    if role == "user" and isinstance(content, str) and not content.strip():
        raise ValueError("the user says nothing")
    return with_reasoning(message)


def _has_parts(content: Any) -> bool:
    return bool(content) and all(map(_is_part, content))


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def _without_thoughts(message: Message, parts: list[Any]) -> list[Any]:
    """The parts of a content without its thoughts, which become the message's "reasoning"."""
    thoughts = [part for part in parts if _is_part(part) and part["type"] in THOUGHT_PARTS]
    texts = [part.get(part["type"], part.get("text")) for part in thoughts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a part that is a thought must have a text")
    add_thoughts(message, texts)
    return [part for part in parts if part not in thoughts]


def _with_calls(message: Message) -> Message:
    """A message of the model with its tool calls in their usual form."""
    calls = from_text(message.get("tool_calls"), "tool_calls")
    if "tool_calls" in message:
        message = message | {"tool_calls": calls}
    if "function_call" in message:  # OpenAI's form from before there were several calls
        old = message["function_call"]
        message = {key: value for key, value in message.items() if key != "function_call"}
        calls = calls or (old and [{"type": "function", "function": old}])
    if not calls:
        return message
    if not isinstance(calls, list | tuple):
        raise ValueError(f"tool_calls: expected a list, got {type(calls).__name__}")
    # --out gives a call that is none as {"text", "problem"}: it is a part of the model's text.
    broken = [c for c in calls if isinstance(c, dict) and c.keys() == {"text", "problem"}]
    if broken and isinstance(content := message.get("content") or "", str):
        calls = [call for call in calls if call not in broken]
        texts = filter(None, [content, *(call["text"] for call in broken)])
        message = message | {"content": "\n".join(texts)}
    usual = []
    for number, call in enumerate(calls, 1):
        try:
            usual.append(_usual(call))
        except ValueError as error:
            raise ValueError(f"tool call {number}: {error}") from None
    return message | {"tool_calls": usual}


def _usual(call: Any) -> dict[str, Any]:
    """A tool call as {"function": {"name", "arguments"}}, beside its other fields."""
    call = from_text(call, "the call")
    if isinstance(call, dict) and "function" not in call and "name" in call:
        rest = {key: value for key, value in call.items() if key in BESIDE_ARGUMENTS - {"name"}}
        inner = {key: value for key, value in call.items() if key not in rest}
        call = {"type": "function"} | rest | {"function": inner}
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise ValueError("expected the name and the arguments of a function")
    beside = {key: call[key] for key in ARGUMENTS if call.get(key) not in (None, "")}
    if beside:  # a field of the call instead of one of its function
        if any(function.get(key) not in (None, "") for key in ARGUMENTS):
            raise ValueError("arguments in the function and beside it: keep one")
        call = {key: value for key, value in call.items() if key not in ARGUMENTS}
        function = {k: v for k, v in function.items() if k not in ARGUMENTS} | beside
    rest = {key: value for key, value in function.items() if key not in ARGUMENTS}
    return call | {"function": rest | {"arguments": parse_arguments(function)}}


def parse_arguments(function: dict[str, Any]) -> dict[str, Any]:
    """The arguments in {"name", "arguments"}. They may be a JSON text, also one within another.

    Raises:
      ValueError: they are not JSON, or not an object; or they have two names, or an unknown one.
    """
    names = [name for name in ARGUMENTS if function.get(name) is not None]
    others = [name for name in function if name not in BESIDE_ARGUMENTS.union(ARGUMENTS)]
    if len(names) > 1:
        raise ValueError(f"both {names[0]} and {names[1]}: keep one")
    if others and not names:
        raise ValueError(f"no arguments, but a field {others[0]}: its name must be arguments")
    arguments = function[names[0]] if names else None
    while isinstance(arguments, str) and arguments.strip():
        try:
            arguments = read_json(arguments)
        except (ValueError, RecursionError) as error:
            why = f"({why_not_json(error)}): {arguments[:40]!r}"
            raise ValueError(f"arguments are not JSON {why}") from None
    if arguments is None or isinstance(arguments, str):  # a function without arguments
        return {}
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments must be an object, got {type(arguments).__name__}")
    return arguments


def from_text(value: Any, name: str) -> Any:
    """A value that may be given as a JSON text; a blank text is None.

    Raises:
      ValueError: the text is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return read_json(value) if value.strip() else None
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: the text is not JSON") from None
