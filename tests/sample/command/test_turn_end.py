"""How a turn ends: stop texts, stop tokens, tools and the token limit."""

import numpy as np
import pytest
import tokenizers

from data.text.tokenizer import DEFAULT_PATH, Tokenizer
from sample.command.turn_end import has_stop_text, read_turn

BACKEND = tokenizers.Tokenizer.from_file(str(DEFAULT_PATH))
BACKEND.add_special_tokens(["<|tool_call>", "<tool_call|>"])
TOKENIZER = Tokenizer(BACKEND)


def tokens(text: str) -> np.ndarray:
    return np.array(TOKENIZER.encode(text), np.int32)


def ending(text: str, *stop_texts: str):
    turn, reason = read_turn(tokens(text), TOKENIZER, TOKENIZER.stop_ids, stop_texts)
    return turn.thoughts, turn.answer, len(turn.tool_calls), reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4<turn|>", "stop"),
        ("4<eos>", "stop"),
        ("4", "length"),
        ("4 <|tool_response>", "tool_calls"),
        ("<|tool_call>call:f{}<tool_call|><turn|>", "tool_calls"),
        ("<|tool_call>call:f{", "length"),
    ],
)
def test_reasons(text, reason):
    assert ending(text)[-1] == reason


def test_without_stop_tokens_it_is_the_length():
    assert read_turn(tokens("4<turn|>"), TOKENIZER, ())[1] == "length"


def test_an_answer_ends_before_the_first_stop_text():
    assert ending("1 2 3 4", "3") == ("", "1 2 ", 0, "stop")
    assert ending("1 2 3 4<turn|>", "9", "4", "3 4") == ("", "1 2 ", 0, "stop")
    assert ending("1 2 3 4<turn|>", "9") == ("", "1 2 3 4", 0, "stop")
    # Over several tokens and in the middle of one.
    assert ending("Solve it: €5", "ve it: €") == ("", "Sol", 0, "stop")
    # What follows it does not count.
    thought, call = "<|channel>thought\n3 4<channel|>", "<|tool_call>call:f{3}<tool_call|>"
    assert ending(f"{thought}1 2 3{call}<turn|>", "3") == ("3 4", "1 2 ", 0, "stop")
    assert ending(f"1 2{call} 3 4 5{call}", "4") == ("", "1 2 3 ", 1, "stop")


def test_a_stop_text_may_lie_over_two_canvases_but_not_in_thoughts():
    whole = tokens("<|channel>thought\n1 2 3<channel|>4 1 2 3 5")
    seen = [has_stop_text(whole[:n], TOKENIZER, ["1 2 3"]) for n in range(len(whole) + 1)]
    assert seen == [False] * (len(whole) - 1) + [True] * 2
