"""Messages as OpenAI, Hugging Face and Google write them, brought to one form.

A message is a dict. It has a "role" (ROLES, or one of their OTHER_NAMES), a "content", and whatever
else a template reads. `checked` is what makes the form of a message certain, so that templates need
to know only one form:

- The content is a text. A list of parts becomes the text of the parts.
- A call of a tool is {"function": {"name": text, "arguments": object}}. The arguments may be given
  as a JSON text, as OpenAI does, and the function without the dict around it. The older field
  "function_call" becomes a list with one call.
- The result of a tool may be given as an object. It becomes a JSON text.
- A thought at the beginning of the model's content becomes its "reasoning" (thoughts.py).
"""

import json
from typing import Any

from data.text.thoughts import with_reasoning

Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "tool")
OTHER_NAMES = {"developer": "system", "model": "assistant", "function": "tool"}
# OpenAI's newer interface calls texts by the side that they come from.
TEXT_PARTS = ("text", "input_text", "output_text")


def checked(messages: list[Message]) -> list[Message]:
    """Checks messages, and brings them to the form that templates read.

    Returns:
      A new list of new messages. Messages that have the form already are equal to those given.

    Raises:
      ValueError: there are no messages, or one of them cannot be used: it is not a dict, its role
        is unknown, its content is not text (only a model's message with tool calls needs no
        content), it is a blank message of the user, or a tool call has no name or has arguments
        that are not an object. The error gives the message's number, counted from 1.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("expected a list of messages, at least one")
    result = []
    for number, message in enumerate(messages, 1):
        try:
            result.append(_checked(message))
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
    return result


def _checked(message: Message) -> Message:
    if not isinstance(message, dict):
        raise ValueError(f"expected role and content, got {type(message).__name__}")
    role = message.get("role")
    role = OTHER_NAMES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise ValueError(f"role {role!r} is none of {', '.join((*ROLES, *OTHER_NAMES))}")
    message = message | {"role": role}
    if role == "assistant":
        message = _with_calls(message)
    content = message.get("content")
    if isinstance(content, list | tuple):
        content = message["content"] = joined(content, role)
    elif role == "tool" and isinstance(content, dict):
        content = message["content"] = json.dumps(content, ensure_ascii=False)
    if content is None and role == "assistant" and message.get("tool_calls"):
        return message
    if not isinstance(content, str):
        raise ValueError(f"content must be text, got {type(content).__name__}")
    if role == "user" and not content.strip():
        raise ValueError("the user says nothing")
    return with_reasoning(message)


def joined(parts: list[Any], role: str) -> str:
    """The text of a content that is given as a list of parts.

    Texts are joined as the released template joins them: it trims each part, and puts a space
    between the parts of a system message and nothing between those of other messages. It does not
    trim a tool's parts. A single part is the same as its text.

    Args:
      parts: texts, or dicts with "type" and "text".
      role: the role of the message, one of ROLES.

    Raises:
      ValueError: a part is not a text, for example an image.
    """
    texts = []
    for part in parts:
        if isinstance(part, dict):
            kind = part.get("type", "text")
            if kind not in TEXT_PARTS:
                raise ValueError(f"a part of type {kind}: this model reads text only")
            part = part.get("text")
        if not isinstance(part, str):
            raise ValueError(f"a part of the content must be text, got {type(part).__name__}")
        texts.append(part)
    if role == "tool" or len(texts) == 1:
        return "".join(texts)
    return (" " if role == "system" else "").join(text.strip() for text in texts)


def _with_calls(message: Message) -> Message:
    """A message of the model with its tool calls in their usual form."""
    calls = message.get("tool_calls")
    if "function_call" in message:  # OpenAI's form from before there were several calls
        old = message["function_call"]
        message = {key: value for key, value in message.items() if key != "function_call"}
        calls = calls or (old and [{"type": "function", "function": old}])
    if not calls:
        return message
    if not isinstance(calls, list | tuple):
        raise ValueError(f"tool_calls: expected a list, got {type(calls).__name__}")
    usual = []
    for number, call in enumerate(calls, 1):
        try:
            usual.append(_usual(call))
        except ValueError as error:
            raise ValueError(f"tool call {number}: {error}") from None
    return message | {"tool_calls": usual}


def _usual(call: Any) -> dict[str, Any]:
    """A tool call as {"function": {"name", "arguments"}}, beside its other fields."""
    if isinstance(call, dict) and "function" not in call and "name" in call:
        inner = {name: call[name] for name in ("name", "arguments") if name in call}
        rest = {name: value for name, value in call.items() if name not in inner}
        call = {"type": "function"} | rest | {"function": inner}
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise ValueError("expected the name and the arguments of a function")
    return call | {"function": function | {"arguments": parse_arguments(function)}}


def parse_arguments(function: dict[str, Any]) -> dict[str, Any]:
    """The arguments in {"name", "arguments"}. They may be a JSON text, also one within another.

    Raises:
      ValueError: they are not JSON, or not an object.
    """
    arguments = function.get("arguments")
    while isinstance(arguments, str) and arguments.strip():
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise ValueError(f"arguments are not JSON ({why}): {arguments[:40]!r}") from None
    if arguments is None or isinstance(arguments, str):  # a function without arguments
        return {}
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments must be an object, got {type(arguments).__name__}")
    return arguments
