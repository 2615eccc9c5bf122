"""Chat as text: the turn format, and the parts of a model's turn.

data/text/messages.py says what a message is. `chat_template.ChatTemplate` turns messages into a
prompt. It uses the template of the checkpoint's folder, or `turns` if the folder has none. `turns`
is the only function that writes the turn format.
"""

import re
from typing import NamedTuple

import numpy as np

from data.text.contents import PLACEHOLDERS, is_media
from data.text.marked_text import (
    END,
    START,
    MarkedText,
    between_marks,
    token_pattern,
    unmark,
)
from data.text.messages import Message
from data.text.thoughts import split_think
from data.text.tokenizer import STOP_TOKENS, Tokenizer
from data.text.tool_calls import QUOTE, ToolCall, parse_call

# Special tokens between marks (data/text/marked_text.py).
BOS, TURN, TURN_END, THINK = map(between_marks, ("<bos>", "<|turn>", "<turn|>", "<|think|>"))
CHANNEL, CHANNEL_END = map(between_marks, ("<|channel>", "<channel|>"))
CALL, CALL_END = map(between_marks, ("<|tool_call>", "<tool_call|>"))
RESPONSE_END = between_marks("<tool_response|>")
STOP = token_pattern(map(between_marks, STOP_TOKENS))
# The tokens that divide a model's turn.
_PARTS = token_pattern([*STOP_TOKENS, QUOTE, *map(unmark, (CHANNEL, CHANNEL_END, CALL, CALL_END))])
# The token limit can cut a thought or a call short, and a model can forget to close one. Such a
# part ends where the next part begins.
_CHANNELS = re.compile(
    rf"{re.escape(CHANNEL)}(.*?)"
    rf"(?:{re.escape(CHANNEL_END)}|(?={re.escape(CHANNEL)}|{re.escape(CALL)})|\Z)",
    re.DOTALL,
)
_CALLS = re.compile(
    rf"{re.escape(CALL)}(.*?)(?:{re.escape(CALL_END)}|(?={re.escape(CALL)})|\Z)", re.DOTALL
)
_INNER = "\ud802"  # stands for QUOTE in a call, because the texts in it may mention the token
_STRAY = token_pattern([CHANNEL_END, CALL_END])
# The name of a channel is the one word of its first line. The text of "final" may stand beside it.
_THOUGHT_NAME = re.compile(r"thought\b|(?:analysis|reasoning|thinking)[ \t]*(?:\n|\Z)")
# Any other word in the first line may be part of an answer, so nothing is left out then.
_OTHER_CHANNEL = re.compile(
    r"final\b:?[ \t]*\n?|(?:answer|response|output|commentary|code|message)[ \t]*\n"
    r"|(?=[A-Za-z][\w-]*[ \t]*\n)"
)


class ModelTurn(NamedTuple):
    """The parts of a model's turn.

    Attributes:
      thoughts: the text of all thoughts, one after another on lines of their own, without white
        space around each; "" if there are none.
      answer: the text that is neither a thought nor a tool call, unchanged.
      tool_calls: the calls between <|tool_call> and <tool_call|>. Each of them is parsed, or has
        the reason why it cannot be.
    """

    thoughts: str
    answer: str
    tool_calls: tuple[ToolCall, ...]


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
      the text, <bos> included. Its special tokens stand between marks (data/text/marked_text.py),
      and those in messages do not, because they are plain text.

    Raises:
      ValueError: a system message is not the first message, two turns of the model follow each
        other, or there are tools, because only a template can write those.
    """
    text, last = BOS, None
    if thinking and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": ""}, *messages]
    for number, message in enumerate(messages):
        role = message["role"]
        if role == "tool" or message.get("tool_calls"):
            raise ValueError("tools need a chat_template.jinja in the checkpoint's folder")
        if role == "system" and number:
            raise ValueError("the system message must be the first")
        if role == last == "assistant":
            raise ValueError("two turns of the model in a row")
        name = "model" if role == "assistant" else role
        think = f"{THINK}\n" if thinking and role == "system" else ""
        text += f"{TURN}{name}\n{think}{_written(message['content'])}{TURN_END}\n"
        last = role
    if generation and last == "assistant":
        raise ValueError("two turns of the model in a row: the last message is the model's")
    return f"{text}{TURN}model\n" if generation else text


def _written(content: str | list[dict[str, str]]) -> str:
    """A content as the released template writes it, which trims the texts beside images."""
    if isinstance(content, str):
        return content
    return "".join(
        between_marks(PLACEHOLDERS[part["type"]]) if is_media(part) else part["text"].strip()
        for part in content
    )


def split_turn(turn: str | MarkedText) -> ModelTurn:
    """Splits the text of a model's turn into thoughts, answer and tool calls.

    A channel named "thought" is a thought, and so is a channel without a name. Names that other
    models give their thoughts ("analysis", "reasoning", "thinking") count as well. The text of any
    other channel belongs to the answer. Its name does not if it is a usual one, such as "final" or
    "answer". The name is the one word of the channel's first line; the name "final" may also stand
    before text. Blocks <think>...</think> at the beginning of the answer are thoughts too, because
    other models write their thoughts so. A block stays text if it has no end.

    A thought or a call that the token limit cut short still counts as one. A closing token without
    its opening token is left out.

    Args:
      turn: the generated tokens, decoded with their special tokens. Everything from the first
        <turn|>, <eos> or <|tool_response> on is left out. In a MarkedText, text that only looks
        like a special token is text.
    """
    if isinstance(turn, str):
        turn = MarkedText(turn, special=None)
    return _split(turn.marked(_PARTS))[0]


def answer_text(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
    """The answer in a model's turn [T] of token ids, without thoughts and special tokens."""
    turn = tokenizer.decode_marked(tokens).marked(tokenizer.special_pattern)
    answer = _split(turn)[1]
    return re.sub(f"{START}[^{END}]*{END}", "", answer)


def _split(marked: str) -> tuple[ModelTurn, str]:
    """The parts of a turn, and its answer with marks around the special tokens in it."""
    text = STOP.split(marked, maxsplit=1)[0]
    thoughts = []

    def text_of(channel: re.Match[str]) -> str:
        body = channel[1]
        thought = _THOUGHT_NAME.match(body)
        named = thought or _OTHER_CHANNEL.match(body)
        text = body[named.end() :] if named else body
        if named and not thought:
            return text
        thoughts.append(text.strip())
        return ""

    rest = _CHANNELS.sub(text_of, text)
    quoted = [call.replace(between_marks(QUOTE), _INNER) for call in _CALLS.findall(rest)]
    calls = tuple(parse_call(unmark(call), _INNER) for call in quoted)
    thought, answer = split_think(_STRAY.sub("", _CALLS.sub("", rest)))
    said = "\n".join(unmark(t) for t in [*thoughts, thought] if t)
    return ModelTurn(said, unmark(answer), calls), answer
