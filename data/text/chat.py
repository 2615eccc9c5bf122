"""Chat as text: the turn format, and the parts of a model's turn.

data/text/messages.py says what a message is. `chat_template.ChatTemplate` turns messages into a
prompt. It uses the template of the checkpoint's folder, or `turns` if the folder has none. `turns`
is the only function that writes the turn format.
"""

import re
from typing import NamedTuple

import numpy as np

from data.text.messages import Message
from data.text.tokenizer import STOP_TOKENS, Tokenizer

STOP = re.compile("|".join(map(re.escape, STOP_TOKENS)))
# The token limit can cut a thought or a call short, and a model can forget to close one. Such a
# part ends where the next part begins.
_THOUGHT = re.compile(
    r"<\|channel>(?:thought\b)?(.*?)(?:<channel\|>|(?=<\|channel>|<\|tool_call>)|\Z)", re.DOTALL
)
_CALL = re.compile(r"<\|tool_call>(.*?)(?:<tool_call\|>|(?=<\|tool_call>)|\Z)", re.DOTALL)
_STRAY = re.compile(r"<channel\|>|<tool_call\|>")


class ModelTurn(NamedTuple):
    """The parts of a model's turn.

    Attributes:
      thoughts: the text of all thought channels, one after another on lines of their own, without
        white space around each; "" if there are none.
      answer: the text that is neither a thought nor a tool call, unchanged.
      tool_calls: the text between <|tool_call> and <tool_call|> of each call, not parsed.
    """

    thoughts: str
    answer: str
    tool_calls: tuple[str, ...]


def turns(messages: list[Message], thinking: bool = False, generation: bool = True) -> str:
    """Writes messages in the turn format of the released models, as far as it is documented.

    The line <|think|> at the top of the system turn asks for thoughts. If there is no system
    message, a system turn is added for that line. If no thoughts are wanted, nothing is written:
    the larger Gemma 4 templates begin the model's turn with an empty thought then, but that thought
    comes from a folder's template and never from this function. Earlier turns of the model are
    written without their thoughts.

    Args:
      messages: what `messages.checked` returns. The content of a model's message is its answer
        alone.
      thinking: whether to ask for thoughts before the answer.
      generation: whether to end with the start of the model's turn.

    Returns:
      The text with its special tokens, <bos> included.

    Raises:
      ValueError: a system message is not the first message, two turns of the model follow each
        other, or there are tools, because only a template can write those.
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
    """Splits the text of a model's turn into thoughts, answer and tool calls.

    A thought or a call that the token limit cut short still counts as one. A closing token without
    its opening token is left out.

    Args:
      text: the generated tokens, decoded with their special tokens. Everything from the first
        <turn|>, <eos> or <|tool_response> on is left out.
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
