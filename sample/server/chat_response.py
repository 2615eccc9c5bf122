"""Answers in the shapes that OpenAI's clients read: whole bodies, and the chunks of a stream."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sample.server.chat_request import ChatRequest
from sample.server.events import Grown, Said, Started

DONE = b"data: [DONE]\n\n"  # the end of a stream
ALIVE = b": waiting\n\n"  # a comment, which readers of server-sent events pass over


class Head(NamedTuple):
    """What all parts of a response begin with.

    Attributes:
      id: "chatcmpl-" and letters that no other response has.
      created: seconds since 1970.
      model: the model's name.
    """

    id: str
    created: int
    model: str

    def record(self, kind: str) -> dict[str, Any]:
        """The fields that all parts have."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def whole(head: Head, started: Started, said: Sequence[Said]) -> dict[str, Any]:
    """The body of a response that is not streamed."""
    choices = []
    for each in said:
        message = {"role": "assistant", "content": each.message["content"], "refusal": None}
        if each.reasoning:
            message["reasoning_content"] = each.reasoning
        if calls := tool_calls(head, each):
            message |= {"tool_calls": calls, "content": message["content"] or None}
        choices.append(_choice(each.index, "message", message, each.finish_reason))
    return head.record("chat.completion") | {"choices": choices, "usage": usage(started, said)}


def chunks(head: Head, asked: ChatRequest, event: Any) -> Iterator[dict[str, Any]]:
    """The chunks of a stream that an event makes.

    Args:
      head: of the response.
      asked: the request.
      event: Started, Grown or Said.
    """

    def chunk(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        found = head.record("chat.completion.chunk")
        found["choices"] = [_choice(index, "delta", delta, reason)]
        return found | ({"usage": None} if asked.include_usage else {})

    if isinstance(event, Started):
        for index in range(asked.choices):
            yield chunk(index, {"role": "assistant", "content": ""})
    elif isinstance(event, Grown):
        if delta := _delta(event):
            yield chunk(event.index, delta)
    elif isinstance(event, Said):
        delta = _delta(event.rest)
        if calls := tool_calls(head, event):
            delta["tool_calls"] = [{"index": i} | call for i, call in enumerate(calls)]
        if delta:
            yield chunk(event.index, delta)
        yield chunk(event.index, {}, event.finish_reason)


def last_chunk(head: Head, started: Started, said: Sequence[Said]) -> dict[str, Any]:
    """The chunk with the usage, which ends a stream that asks for it."""
    body = head.record("chat.completion.chunk")
    return body | {"choices": [], "usage": usage(started, said)}


def usage(started: Started, said: Sequence[Said]) -> dict[str, Any]:
    """Tokens and denoising steps of all choices together."""
    completion = sum(sum(each.valid_tokens) for each in said)
    return {
        "prompt_tokens": started.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": started.prompt_tokens + completion,
        "denoising_steps": sum(sum(each.steps) for each in said),
    }


def tool_calls(head: Head, said: Said) -> list[dict[str, Any]]:
    """The calls of a choice. Their ids are those of no other call of the server."""
    return [
        {
            "id": f"call_{head.id.removeprefix('chatcmpl-')}_{said.index}_{number}",
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for number, call in enumerate(said.message.get("tool_calls", ()))
    ]


class Model(NamedTuple):
    """The model that the server has.

    Attributes:
      id: its name.
      created: when the server was started, in seconds since 1970.
      context: the largest number of tokens of a prompt and its answer together.
    """

    id: str
    created: int
    context: int

    def record(self) -> dict[str, Any]:
        """The model as an element of the list of models."""
        return {
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": "local",
            "max_model_len": self.context,
        }


def server_sent(value: Any, event: str | None = None) -> bytes:
    """A value as a server-sent event. Its JSON is ASCII, so lone surrogates do no harm."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def _choice(index: int, kind: str, value: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": index, kind: value, "logprobs": None, "finish_reason": reason}


def _delta(grown: Grown) -> dict[str, Any]:
    texts = {"content": grown.content, "reasoning_content": grown.reasoning}
    return {name: text for name, text in texts.items() if text}
