"""Regular expressions as automata over bytes, against Python's re; and what is refused."""

import itertools
import re

import numpy as np
import pytest

from data.text.byte_automaton import ByteAutomaton, compile_regex


def accepts(automaton: ByteAutomaton, text: str) -> bool:
    state = 0
    for byte in text.encode():
        state = automaton.next[state, byte]
        if state < 0:
            return False
    return bool(automaton.accepting[state])


@pytest.mark.parametrize(
    "expression",
    [
        *("a|ab", "a*?b??", "(?:a|ab)(?:b|ba)", "^a|b$", "a\\$", "[^a]+", ".{2}", "(?i)A", "é|ab"),
        *("(a|b){2,3}?", "()", "[]a]+", r"\w\W?", "(?P<x>a)b", "a{0}b", "^$"),
    ],
)
def test_it_accepts_what_python_matches(expression):
    letters = "abé$] "
    automaton = compile_regex(expression)
    for length in range(4):
        for text in map("".join, itertools.product(letters, repeat=length)):
            assert accepts(automaton, text) == bool(re.fullmatch(expression, text)), text


def test_all_states_lead_to_an_accepting_one():
    automaton = compile_regex("a(?:b|c{3})*d")
    live = automaton.accepting.copy()
    for _ in range(len(live)):
        live = live | (live[automaton.next] & (automaton.next >= 0)).any(axis=1)
    assert live.all()


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "is empty"),
        (r"(a)\1", "back-references are not possible"),
        (r"(?P<n>a)(?P=n)", "back-references are not possible"),
        ("a(?=b)", r"look-around \(\(\?=\) is not possible"),
        ("(?<!a)b", "look-around"),
        (r"\bword", "word boundaries"),
        ("a^b", "the anchor ^ can only be"),
        ("(a$)b", "the anchor $ can only be"),
        ("(a", "a parenthesis has no partner"),
        ("a)(b", "a parenthesis has no partner"),
        ("[a", "unterminated character set"),
        ("a{3,2}", "min repeat greater than max"),
        ("*a", "nothing to repeat"),
        (r"(\w{100}){100}", "too large with its repetitions"),
        ("a{999999999}", "too large with its repetitions"),
        ("[^\\x00-\\x{10FFFF}]", "not a regular expression|no text matches"),
        ("\ud800", "not UTF-8"),
    ],
)
def test_what_is_refused_is_said_in_one_line(expression, why):
    with pytest.raises(ValueError, match=why.replace("^", r"\^").replace("$", r"\$")) as error:
        compile_regex(expression)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_a_parenthesis_in_a_class_or_behind_a_backslash_is_no_group():
    assert accepts(compile_regex(r"[(]\([)^$]"), "(()")


def test_the_states_are_few():
    assert np.sort(compile_regex("abc").accepting).tolist() == [False, False, False, True]


def test_a_text_of_bounded_length_takes_no_longer_at_the_beginning():
    # Without the mark before it, each further character doubles the compiler's time: at 30, hours.
    assert len(compile_regex(r'"(?:[^"\\]|\\["\\/bfnrt]){0,30}"').accepting) > 30
