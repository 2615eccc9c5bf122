"""Every text that the expression matches is a JSON object, and every small object matches."""

import json

import numpy as np
import pytest

from data.text.byte_automaton import NO_STATE, compile_regex
from data.text.json_object import any_object


@pytest.fixture(scope="module")
def automaton():
    return compile_regex(any_object())


def matches(automaton, text):
    state = 0
    for byte in text.encode():
        state = automaton.next[state, byte]
        if state == NO_STATE:
            return False
    return bool(automaton.accepting[state])


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"": ""},
        {"a": 1, "b": -2.5e3, "ä\n": '"\\', "d": True, "e": None},
        {"a": [], "b": [1, "x", None], "c": {}, "d": {"e": "f", "g": 0.5}},
    ],
)
def test_objects_match(automaton, value):
    for text in (json.dumps(value, ensure_ascii=False), json.dumps(value, separators=(",", ":"))):
        assert matches(automaton, text.replace(r"\u00e4", "ä"))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", "{", "{]", "{1: 2}", '{"a"}', '{"a": }', '{"a": 1,}', '{"a": 01}', '{"a": x}',
     '{"a": "\n"}', '{"a": 1} ', '{"a": [1}', '{"a": [[1]]}', '{"a": {"b": {"c": 1}}}'],
)  # fmt: skip
def test_others_do_not(automaton, text):
    assert not matches(automaton, text)


def test_random_matches_are_objects(automaton):
    rng = np.random.default_rng(0)
    for _ in range(50):
        state, text = 0, b""
        while not automaton.accepting[state] or len(text) < 30:
            # Printable bytes, and rather those that close what is open.
            ways = [b for b in range(32, 127) if automaton.next[state, b] != NO_STATE]
            closing = [b for b in ways if chr(b) in '"]}:,']
            if not ways:
                break
            byte = int(rng.choice(closing if closing and rng.random() < 0.5 else ways))
            state, text = automaton.next[state, byte], text + bytes([byte])
        assert isinstance(json.loads(text), dict), text
