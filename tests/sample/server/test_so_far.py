"""The parts of a streamed answer, put together, are the whole answer, wherever canvases end."""

import numpy as np
import pytest

from data.text.marked_text import MarkedText
from data.text.tokenizer import Tokenizer
from sample.command.turn_end import has_stop_text, read_turn
from sample.server.so_far import SoFar, certain

TOKENIZER = Tokenizer.load()
STOPS = ("END", "\n\n", "é!")
PIECES = [
    "<think>", "</think>", "<thinking>", "</thinking>", "<|channel>", "<channel|>", "thought\n",
    "final\n", "<|tool_call>", "<tool_call|>", "call:f{a:1}", "E", "N", "D", "EN", "\n", "\n\n",
    "é", "!", "字", "🏳", " ", "a", " word", "<", "th", "answer\n", "<think", ">", "analysis",
]  # fmt: skip


def spoken(rng: np.random.Generator) -> np.ndarray:
    """Tokens of a turn of random pieces, without a stop token."""
    text = "".join(rng.choice(PIECES, rng.integers(1, 25)))
    return np.array(TOKENIZER.encode(text), np.int32)


@pytest.mark.parametrize("stop_texts", [(), STOPS], ids=["no stop texts", "stop texts"])
def test_parts_make_the_whole(stop_texts):
    rng, shown = np.random.default_rng(0), 0
    for _ in range(400):
        tokens = spoken(rng)
        so_far, answer, end = SoFar(TOKENIZER, TOKENIZER.stop_ids, stop_texts, False), "", 0
        while True:
            end = min(end + int(rng.integers(1, 8)), len(tokens))
            answer += so_far.grown(tokens[:end])[0]
            over = has_stop_text(tokens[:end], TOKENIZER, stop_texts)
            if over or end == len(tokens):
                break
        turn = read_turn(tokens[:end], TOKENIZER, TOKENIZER.stop_ids, stop_texts)[0]
        shown += bool(answer)
        answer += so_far.rest(turn.answer, turn.thoughts)[0]
        assert answer == turn.answer, TOKENIZER.decode(tokens[:end], skip_special=False)
    assert shown > 130


def test_what_is_held_back():
    assert certain("Hello", ()) == "Hello"
    assert certain("The E", STOPS) == "The " and certain("The ENd", STOPS) == "The ENd"
    assert certain(" <thi", ()) == certain("<think>so", ()) == ""
    assert certain("a <think>", ()) == "a <think>" and certain("<b>", ()) == "<b>"
    assert certain("a\ufffd\ufffd", ()) == "a"


def test_an_answer_that_obeys_has_no_thoughts():
    tokens = np.array(TOKENIZER.encode(MarkedText.read("<think>1</think>字")))
    so_far = SoFar(TOKENIZER, TOKENIZER.stop_ids, (), True)
    parts = [so_far.grown(tokens[:end]) for end in range(1, len(tokens) + 1)]
    assert "".join(text for text, _ in parts) == "<think>1</think>字"
    assert not any(thoughts for _, thoughts in parts)
