"""Texts, mentions, tool calls and byte fallback with a tokenizer of the released one's size."""

import random

import pytest

from data.text.chat import split_turn
from data.text.chat_template import ChatTemplate
from tests.data.text.big_tokenizer import SPECIAL, VOCAB_SIZE, big_tokenizer
from tests.data.text.mentions import check_mentions, conversation
from tests.data.text.messages import CALL, MODEL, RESULT, TOOLS, USER
from tests.data.text.templates import DIFFUSION, TEMPLATE
from tests.data.text.test_tokenizer import names, texts


@pytest.fixture(scope="module")
def tok():
    return big_tokenizer()


def test_the_size_and_the_ids(tok):
    assert tok.vocab_size == VOCAB_SIZE and not tok._by_word
    assert {token: tok.token_id(token) for token in SPECIAL} == SPECIAL
    assert tok.stop_ids == (1, 106, 50)


def test_round_trip(tok):
    rng = random.Random(2)
    runs = ["\n", "\t", " ", "\n\n\n", "\r\n"]
    for text in texts(200):
        text += rng.choice(runs) * rng.randrange(40)
        assert tok.decode(tok.encode(text)) == text


def test_runs_are_single_tokens(tok):
    assert names(tok, "a\n\n\n\tb") == ["a", "\n\n\n", "\t", "b"]
    assert names(tok, "\n" * 33) == ["\n" * 31, "\n\n"]
    assert len(tok.encode("\t" * 7)) == 1


@pytest.mark.parametrize("source", [None, TEMPLATE, DIFFUSION])
def test_mentions_are_plain_text(tok, source):
    template, rng = ChatTemplate(tok, source), random.Random(3)
    for _ in range(25):
        messages, tools = conversation(rng, tools=source is not None)
        check_mentions(template, messages, tools, thinking=rng.random() < 0.5)


def test_a_mention_beside_runs_keeps_their_tokens(tok):
    message = {"role": "user", "content": "a\n\n\n<pad>\t\tb"}
    prompt = tok.encode(ChatTemplate(tok).render([message]))
    found = [tok.decode([i], skip_special=False) for i in prompt]
    assert "\n\n\n" in found and "\t\t" in found and "<pad>" not in found


def test_a_call_goes_through_tokens_and_back(tok):
    said = 'a <|"|> quotes, <tool_call|> ends, <turn|> too'
    call = {"name": "clock", "arguments": {"s": said, "o": {"l": [1, None, said]}}}
    message = {**CALL, "content": "<|tool_call>?", "tool_calls": [{"function": call}]}
    template = ChatTemplate(tok, TEMPLATE)
    prompt, answer = template.example([USER, message], TOOLS)
    turn = split_turn(tok.decode_marked([*tok.encode(answer), tok.pad_id]))
    assert [c.function for c in turn.tool_calls] == [call]
    assert turn.answer == "<|tool_call>?"
    assert template.render([USER], tools=TOOLS) == prompt
    # The results of calls in one message are not learned.
    asked = {**message, "content": "4", "tool_responses": [1]}
    source = TEMPLATE.replace("{%- set said =", RESPONSES)
    prompt, answer = ChatTemplate(tok, source).example([USER, asked])
    assert answer.text == "4<turn|>" and prompt.text.endswith("noon<tool_response|>")


RESPONSES = """\
    {%- if message.get('tool_responses') -%}
        {%- set state.kind = 'result' -%} <|tool_response>noon<tool_response|>
    {%- endif -%}
    {%- set said ="""


def test_byte_fallback_runs(tok):
    for text in ("中", "☃", "🙂", "a中🙂b", "中\n\n🙂<pad>"):
        ids = tok.encode(text)
        assert tok.decode(ids, skip_special=False) == text
    ids = tok.encode("🙂")
    assert len(ids) == 4 and all(tok.decode([i]) == "\ufffd" for i in ids)
    # A character that is not yet whole shows a sign, and its neighbours are kept.
    assert tok.decode([*tok.encode("a"), *ids[:3], *tok.encode("b")]) == "a\ufffd\ufffd\ufffdb"
    # Special tokens divide a run.
    assert tok.decode_marked([*ids, 106, *ids]).text == "🙂<turn|>🙂"


def test_a_conversation_with_calls(tok):
    prompt, answer = ChatTemplate(tok, TEMPLATE).example([USER, CALL, RESULT, MODEL], TOOLS)
    ids = tok.encode(prompt)
    assert [i for i in ids if i in SPECIAL.values()][-6:] == [48, 49, 50, 52, 52, 51]
    assert tok.encode(answer) == [*tok.encode("4"), 106]
