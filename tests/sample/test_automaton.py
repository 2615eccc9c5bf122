"""The automaton over tokens, against Python's re on all short sequences of tokens."""

import itertools
import re

import numpy as np
import pytest

from data.text.byte_automaton import compile_regex
from data.text.tokenizer import Tokenizer
from sample.automaton import NEVER, Automaton, token_automaton
from tests.sample.obeying import PAD, STOP, automaton_of, random_regex


def after(automaton: Automaton, state: int, token: int) -> int | None:
    """The state behind a token."""
    edges = automaton.has_class(automaton.classes[token]) & (automaton.source == state)
    assert edges.sum() <= 1
    return int(automaton.target[edges][0]) if edges.any() else None


def test_it_accepts_what_python_matches_for_random_expressions_and_vocabularies():
    rng = np.random.default_rng(0)
    for _ in range(60):
        expression = random_regex(rng)
        texts = ["".join(rng.choice(list("ab"), rng.integers(1, 4))) for _ in range(5)]
        vocabulary = [None, None, None, *(text.encode() for text in texts)]
        try:
            automaton = automaton_of(expression, vocabulary)
        except ValueError as error:
            assert "no tokens" in str(error)
            automaton = None
        for length in range(5):
            for tokens in itertools.product(range(5), repeat=length):
                state = 0 if automaton else None
                for token in tokens:
                    state = None if state is None else after(automaton, state, token + 3)
                found = state is not None and automaton.accepting[state]
                text = "".join(texts[token] for token in tokens)
                assert found == bool(re.fullmatch(expression, text)), (expression, text)
                if found:
                    end = after(automaton, state, STOP)
                    assert end == after(automaton, end, STOP) == after(automaton, end, PAD)
                    assert all(after(automaton, end, token + 3) is None for token in range(5))


def test_tokens_of_one_class_lead_from_the_same_states_to_the_same_states():
    tokenizer = Tokenizer.load()
    expression = r'\{"name": "[^"]{0,3}", "é": (?:true|false|[0-9]+)\}'
    automaton = token_automaton(
        compile_regex(expression), tokenizer.token_bytes, 1024, tokenizer.stop_ids, (0, 1)
    )
    text = compile_regex(expression)
    moves = {}
    for token, string in enumerate(tokenizer.token_bytes):
        if string is None or token in (*tokenizer.stop_ids, 0, 1):
            continue
        states = np.arange(len(text.accepting))
        for byte in string:
            states = np.where(states < 0, -1, text.next[states, byte])
        moves[token] = tuple(states.tolist())
    by_class = {}
    for token, move in moves.items():
        by_class.setdefault(automaton.classes[token], set()).add(move)
    assert all(len(found) == 1 for klass, found in by_class.items() if klass != NEVER)
    assert all(set(move) == {-1} for move in by_class[NEVER])
    assert len(by_class) == len(set(moves.values()))
    assert len(automaton.member_class) < 1000  # nothing has the size states x vocabulary


def test_special_tokens_are_no_text_and_bytes_are():
    tokenizer = Tokenizer.load()
    text = tokenizer.token_bytes
    assert text[tokenizer.pad_id] is text[tokenizer.turn_end_id] is text[3] is None
    assert [text[i] for i in tokenizer.encode("1 €")] == [b"1", b" ", b"\xe2", b"\x82", b"\xac"]


def test_a_vocabulary_that_cannot_spell_the_text_is_refused():
    with pytest.raises(ValueError, match="no tokens that give"):
        automaton_of("c")


def test_a_walk_that_takes_too_long_is_refused(monkeypatch):
    vocabulary = [None, None, None, *(bytes([byte]) for byte in b"abc")]
    monkeypatch.setattr("sample.automaton.MOST_TRIES", 28)  # 7 states, 3 tokens of one class
    automaton_of("[abc]{6}", vocabulary)
    with pytest.raises(ValueError, match=r"takes too much time.*demand less"):
        automaton_of("[abc]{7}", vocabulary)
