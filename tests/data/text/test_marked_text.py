"""Texts with places of special tokens: their marks, and messages that only mention such tokens."""

import random

import pytest

from data.text.chat_template import ChatTemplate
from data.text.marked_text import MarkedText, between_marks, mark, token_pattern, unmark
from data.text.tokenizer import Tokenizer
from tests.data.text.mentions import check_mentions, conversation
from tests.data.text.templates import DIFFUSION, RELEASE, TEMPLATE

TOKENS = token_pattern(["<a>", "<a>>", "<b>"])


def test_marks_are_read_and_written():
    marked = f"x<a>{between_marks('<a>')}{between_marks('<b>')} <b>"
    text = MarkedText.read(marked)
    assert text == MarkedText("x<a><a><b> <b>", ((4, 7), (7, 10)))
    assert text.marked(TOKENS) == marked
    every = MarkedText(text.text, special=None)
    assert MarkedText.read(every.marked(TOKENS)).special == ((1, 4), (4, 7), (7, 10), (11, 14))
    assert MarkedText.read("<a>") == MarkedText("<a>")
    assert unmark(marked) == text.text


def test_the_longest_token_is_marked():
    assert MarkedText.read(mark("<a>> <a>b>", TOKENS)).special == ((0, 4), (5, 8))


def test_a_mark_whose_partner_was_cut_off_is_left_out():
    whole = f"a{between_marks('<a>')}b"
    for cut in range(len(whole)):
        text = MarkedText.read(whole[cut:])
        assert text.text == unmark(whole[cut:]) and len(text.special) == (cut < 2)


@pytest.mark.parametrize("source", [None, TEMPLATE, RELEASE, DIFFUSION])
def test_no_message_has_a_special_token(source):
    tok = Tokenizer.load()
    template, rng = ChatTemplate(tok, source), random.Random(1)
    for _ in range(25):
        messages, tools = conversation(rng, tools=source is not None)
        check_mentions(template, messages, tools, thinking=rng.random() < 0.5)
