"""Finds the model's answer in the text of a whole conversation.

All texts here have marks around their special tokens (data/text/marked_text.py). The whole text may
have marks around {% generation %} blocks too.
"""

import re
from typing import NamedTuple

from data.text.chat import CHANNEL, CHANNEL_END, RESPONSE_END, STOP, TURN, TURN_END
from data.text.generation_blocks import BLOCK, BLOCK_END

THOUGHT, THOUGHT_END = f"{CHANNEL}thought\n", CHANNEL_END
MODEL = f"{TURN}model\n"
_STOPS = re.compile(rf"(?:\s|{STOP.pattern})*")


class AnswerPart(NamedTuple):
    """What the model is asked, and what it should write.

    Attributes:
      prompt: the text of the prompt.
      begun: the beginning of a thought, or an empty thought, that ends the prompt and that the
        whole text does not have there.
      answer: the text of the answer, up to and including the token that ends the turn.
    """

    prompt: str
    begun: str
    answer: str


def find_answer(whole: str, prompt: str, thinking: bool, after_tool: bool) -> AnswerPart:
    """Finds the answer. `ChatTemplate.example` says which part of the text it is.

    Args:
      whole: the text of the whole conversation.
      prompt: the text of the conversation without its last message, with the start of the answer.
      thinking: whether the prompt asks for thoughts.
      after_tool: whether the message before the answer is a tool's result.

    Raises:
      ValueError: the answer's part of the text is not known.
    """
    text, blocks = _without_blocks(whole)
    opening, begun = _opening(text, prompt, thinking, after_tool)
    if blocks:
        start, end = _last_run(text, blocks)
        if opening is not None:
            start = max(start, len(opening))
        if opening is None or text[len(opening) : start] not in ("", MODEL):
            prompt, begun = text[:start], ""
        return AnswerPart(prompt, begun, _ended(text, start, end))
    if opening is None:
        raise ValueError(
            "the prompt that it writes is not how the conversation with the answer begins, so the "
            "answer's part of the text is not known"
        )
    start = len(opening) + len(MODEL) * text.startswith(MODEL, len(opening))
    response = text.rfind(RESPONSE_END, start)
    if response >= 0:  # The last message itself holds the results of its calls.
        start = response + len(RESPONSE_END)
        prompt, begun = text[:start], ""
    return AnswerPart(prompt, begun, _ended(text, start))


def _opening(whole: str, prompt: str, thinking: bool, after_tool: bool) -> tuple[str | None, str]:
    """The part of a prompt with which the whole conversation begins.

    Returns:
      (opening, begun): the part, or None if the conversation begins otherwise; and
      AnswerPart.begun.
    """
    for closed in ("", f"{TURN_END}\n") if after_tool else ("",):
        for begun in ("", THOUGHT if thinking else THOUGHT + THOUGHT_END):
            opening = prompt.removesuffix(closed + begun)
            if opening + closed + begun == prompt and whole.startswith(opening):
                return opening, begun
    return None, ""


def _without_blocks(whole: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without the marks of blocks, and (start, end) of each outermost block in it."""
    pieces, blocks, starts, place = [], [], [], 0
    for piece in re.split(f"([{BLOCK}{BLOCK_END}])", whole):
        if piece == BLOCK:
            starts.append(place)
        elif piece == BLOCK_END and starts:
            start = starts.pop()
            blocks += [] if starts else [(start, place)]
        else:
            pieces.append(piece)
            place += len(piece)
    return "".join(pieces), blocks


def _last_run(text: str, blocks: list[tuple[int, int]]) -> tuple[int, int]:
    """The start and the end of the last blocks with at most white space between them."""
    start, last = blocks[-1]
    for begin, end in reversed(blocks[:-1]):
        if text[end:start].strip():
            break
        start = begin
    return start, last


def _ended(text: str, start: int, end: int | None = None) -> str:
    """The answer that begins at `start`, up to and including the end of the turn.

    Args:
      end: the end of what the model writes, except for a token that ends the turn directly after
        it; None if that is not known.
    """
    stop = STOP.search(text, start)
    if stop is None or not text[start : stop.start()].strip():
        if stop:
            raise ValueError("it writes nothing for the answer")
        raise ValueError(
            "it does not end the answer with <turn|>, <eos> or <|tool_response>, so it may be the "
            "template of another model: use a template of this model"
        )
    if not _STOPS.fullmatch(text, stop.end() if end is None else end):
        raise ValueError("it writes text after the end of the answer")
    return text[start : stop.end()]
