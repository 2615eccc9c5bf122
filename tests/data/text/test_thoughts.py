"""Thoughts at the beginning of a message's text."""

import pytest

from data.text.thoughts import split_think, with_reasoning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>x</think>42", ("x", "42")),
        ("\n <think>\nx\ny\n</think>\n\n 42\n", ("x\ny", " 42\n")),
        ("<think></think>42", ("", "42")),
        ("<think>x</think><think>y</think>42", ("x\ny", "42")),
        ("<think>x</think>4<think>y</think>2", ("x", "4<think>y</think>2")),
        ("<think>x</think>\n\n<think> </think>42", ("x", "42")),
        ("<think>x", ("", "<think>x")),
        ("x</think>42", ("", "x</think>42")),
        ("```\n<think>x</think>\n```", ("", "```\n<think>x</think>\n```")),
    ],
)
def test_split_think(text, expected):
    assert split_think(text) == expected


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        ({"content": "<think>x</think>\n\n42"}, "42", "x"),
        ({"content": "<|channel>thought\nx\n<channel|>42"}, "42", "x"),
        ({"content": "<think>\n\n</think>\n\n42"}, "42", None),
        ({"content": "<think>x</think>42", "reasoning": "x"}, "42", "x"),
        ({"content": "<think>x</think><|channel>thought\ny<channel|>42"}, "42", "x\ny"),
        ({"content": "<think>x</think>42", "reasoning_content": "w"}, "42", "w\nx"),
        ({"content": "<think>x</think>42", "tool_calls": [1]}, "42", "x"),
        ({"content": "42"}, "42", None),
        ({"content": "<|channel>final\n42<channel|>"}, "42", None),
        ({"content": "<|channel>thought\nx"}, "<|channel>thought\nx", None),
        ({"content": "<|channel>thought\nx<channel|><|channel>final\n4"}, "4", "x"),
        ({"content": "x\ny.\n</think>\n\n42"}, "42", "x\ny."),
        ({"content": "<thinking>x</thinking>\n42"}, "42", "x"),
        ({"content": "Close it with </think> there.\n"}, "Close it with </think> there.\n", None),
        ({"content": "```\n</think>\n```"}, "```\n</think>\n```", None),
        ({"content": "`<think>x</think>`"}, "`<think>x</think>`", None),
        ({"content": None}, None, None),
    ],
)
def test_the_thought_moves_to_the_reasoning(message, content, reasoning):
    message = {"role": "assistant", **message}
    before = dict(message)
    found = with_reasoning(message)
    assert message == before
    assert found["content"] == content and found.get("tool_calls") == message.get("tool_calls")
    if reasoning is None:
        assert {"reasoning", "reasoning_content"}.isdisjoint(found)
    else:
        assert found["reasoning"] == found["reasoning_content"] == reasoning
    assert with_reasoning(found) == found


def test_only_the_assistants_text_holds_thoughts():
    message = {"role": "user", "content": "<think>x</think>42"}
    assert with_reasoning(message) is message
