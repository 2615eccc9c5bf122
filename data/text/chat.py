"""Chat as text: messages, the turn format (written nowhere else), and what a model's turn holds.

A message is a dict as in OpenAI's and Hugging Face's JSON: "role" (one of ROLES; model is another
name of assistant), "content" (text), and what else a template reads, such as "tool_calls".
`chat_template.ChatTemplate` turns messages into a prompt; without a template in the checkpoint's
folder, through `turns`.
"""

import re
from typing import Any, NamedTuple

import numpy as np

from data.text.tokenizer import STOP_TOKENS, Tokenizer

Message = dict[str, Any]

ROLES = ("system", "user", "assistant", "model", "tool")

STOP = re.compile("|".join(map(re.escape, STOP_TOKENS)))
# Cut short by the token limit, or spoilt, a thought or call ends where the next thing begins.
_THOUGHT = re.compile(
    r"<\|channel>(?:thought\b)?(.*?)(?:<channel\|>|(?=<\|channel>|<\|tool_call>)|\Z)", re.DOTALL
)
_CALL = re.compile(r"<\|tool_call>(.*?)(?:<tool_call\|>|(?=<\|tool_call>)|\Z)", re.DOTALL)
_STRAY = re.compile(r"<channel\|>|<tool_call\|>")


class ModelTurn(NamedTuple):
    """What a model wrote in its turn.

    Attributes:
      thoughts: the text of its thought channels, without outer white space; "" for none.
      answer: all that is neither a thought nor a call, to the character.
      tool_calls: the text between <|tool_call> and <tool_call|> of each call, not parsed.
    """

    thoughts: str
    answer: str
    tool_calls: tuple[str, ...]


def checked(messages: list[Message]) -> list[Message]:
    """The messages, the role "model" by its usual name "assistant".

    Raises:
      ValueError: there are none; one is not a dict, has another role, content that is not text
          (only a model's tool call needs none), or is a user's and blank. It names the message by
          its number, from 1.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("expected a list of messages, at least one")
    result = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            kind = type(message).__name__
            raise ValueError(f"message {number}: expected role and content, got {kind}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise ValueError(f"message {number}: role {role!r} is none of {', '.join(ROLES)}")
        role = "assistant" if role == "model" else role
        if not (content is None and role == "assistant" and message.get("tool_calls")):
            if not isinstance(content, str):
                kind = type(content).__name__
                raise ValueError(f"message {number}: content must be text, got {kind}")
            if role == "user" and not content.strip():
                raise ValueError(f"message {number}: the user says nothing")
        result.append(message | {"role": role})
    return result


def turns(messages: list[Message], thinking: bool = False, generation: bool = True) -> str:
    """The prompt in the turn format of the released models, as far as it is documented.

    Thinking is switched on by <|think|> on a line of its own at the top of the system turn, which
    is added where there is none. Off, nothing is written: the empty thought with which the larger
    Gemma 4 templates then begin the model's turn comes from a folder's template, not from here.
    Earlier turns of the model are written without the thoughts they had.

    Args:
      messages: as `checked` returns them; the content of the model's is its answer alone.
      thinking: asks for thoughts before the answer.
      generation: end with the start of the model's turn.

    Raises:
      ValueError: a system message that is not the first, two turns of the model in a row, or
          tools, whose text this format leaves to a template.
    """
    messages = list(messages)
    if thinking:
        first = messages[0]["role"] == "system"
        system = messages.pop(0)["content"] if first else ""
        messages.insert(0, {"role": "system", "content": f"<|think|>\n{system}"})
    text, last = "<bos>", None
    for number, message in enumerate(messages):
        role = message["role"]
        if role == "tool" or message.get("tool_calls"):
            raise ValueError("tools need a chat_template.jinja in the checkpoint's folder")
        if role == "system" and number:
            raise ValueError("the system message must be the first")
        if role == last == "assistant":
            raise ValueError("two turns of the model in a row")
        name = "model" if role == "assistant" else role
        text += f"<|turn>{name}\n{message['content']}<turn|>\n"
        last = role
    if generation and last == "assistant":
        raise ValueError("two turns of the model in a row: the last message is the model's")
    return f"{text}<|turn>model\n" if generation else text


def split_turn(text: str) -> ModelTurn:
    """Takes thoughts, answer and tool calls of a model's turn apart.

    Args:
      text: what the model generated, decoded with its special tokens; all after the first of
          <turn|>, <eos>, <|tool_response> is left out. A thought or a call that the token limit
          cut short counts as one, a closing token without its opening as nothing.
    """
    text = STOP.split(text, maxsplit=1)[0]
    thoughts = [body.strip() for body in _THOUGHT.findall(text)]
    rest = _THOUGHT.sub("", text)
    calls = tuple(_CALL.findall(rest))
    answer = _STRAY.sub("", _CALL.sub("", rest))
    return ModelTurn("\n".join(t for t in thoughts if t), answer, calls)


def answer_text(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
    """The answer in a model's turn [T] of token ids, without thoughts and special tokens."""
    answer = split_turn(tokenizer.decode(tokens, skip_special=False)).answer
    for special in tokenizer.special_tokens_in(answer):
        answer = answer.replace(special, "")
    return answer
