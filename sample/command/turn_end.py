"""How a model's turn ends: at a stop token, at a stop text, for a tool, or at the token limit."""

import bisect
from collections.abc import Sequence
from typing import Literal

import numpy as np

from data.text.chat import ModelTurn, split_turn
from data.text.tokenizer import Tokenizer

# OpenAI's names: the model ended its turn, or a stop text did; the tokens ran out; tools are asked.
FinishReason = Literal["stop", "length", "tool_calls"]
TOOL_RESPONSE = "<|tool_response>"  # the stop token with which a model waits for its tools


def has_stop_text(tokens: np.ndarray, tokenizer: Tokenizer, stop_texts: Sequence[str]) -> bool:
    """Whether a stop text is in the answer so far; those in thoughts and tool calls do not count.

    Args:
      tokens: [T] int32, the valid tokens of a turn so far.
      tokenizer: the model's tokenizer.
      stop_texts: texts that end an answer.
    """
    return _first(_split(tokens, tokenizer).answer, stop_texts) is not None


def read_turn(
    tokens: np.ndarray,
    tokenizer: Tokenizer,
    stop_ids: Sequence[int],
    stop_texts: Sequence[str] = (),
) -> tuple[ModelTurn, FinishReason]:
    """Reads a turn, and says how it ended.

    Args:
      tokens: [T] int32, the valid tokens of the turn, at least one.
      tokenizer: the model's tokenizer.
      stop_ids: tokens that end a generation.
      stop_texts: texts that end an answer. The answer ends before the first of them, and nothing
        that the model wrote after it counts.

    Returns:
      (turn, reason).
    """
    turn = _split(tokens, tokenizer)
    if stop_texts and has_stop_text(tokens, tokenizer, stop_texts):
        # The fewest tokens that hold a stop text: thoughts and calls after it are none of theirs.
        count = bisect.bisect_left(
            range(len(tokens)),
            True,
            key=lambda count: has_stop_text(tokens[:count], tokenizer, stop_texts),
        )
        turn = _split(tokens[:count], tokenizer)
        return turn._replace(answer=turn.answer[: _first(turn.answer, stop_texts)]), "stop"
    if tokens[-1] not in stop_ids:
        return turn, "length"
    for_tools = (
        turn.tool_calls or tokenizer.decode(tokens[-1:], skip_special=False) == TOOL_RESPONSE
    )
    return turn, "tool_calls" if for_tools else "stop"


def _split(tokens: np.ndarray, tokenizer: Tokenizer) -> ModelTurn:
    return split_turn(tokenizer.decode_marked(tokens))


def _first(text: str, stop_texts: Sequence[str]) -> int | None:
    """Where the first stop text begins; None if there is none."""
    return min((at for stop in stop_texts if (at := text.find(stop)) >= 0), default=None)
