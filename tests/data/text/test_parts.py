"""Answers in parts: their tokens, what is given of them, and the rows that are made of them."""

import numpy as np
import pytest

from data.pipeline import Packer
from data.text.chat_template import ChatTemplate
from data.text.conversations import conversation
from data.text.marked_text import MarkedText
from data.text.parts import NOTHING, Part, encode_parts
from data.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load()


def answer(text: str) -> MarkedText:
    """An answer as the chat template writes it."""
    end = len(text)
    return MarkedText(f"{text}<turn|>\n", ((end, end + len("<turn|>")),))


def test_each_part_is_encoded_by_itself(tokenizer):
    parts = [Part("12", "kept"), Part(" 3", "open"), Part("\n", "kept"), Part("4", "start", "7")]
    ids, given = encode_parts(tokenizer, answer("12 3\n4"), parts)
    each = [tokenizer.encode(part.text) for part in parts]
    end = [tokenizer.turn_end_id, *tokenizer.encode("\n")]
    assert ids == [*each[0], *each[1], *each[2], *each[3], *end]
    open_part = [NOTHING] * len(each[1])
    assert given.tokens == [*each[0], *open_part, *each[2], *tokenizer.encode("7"), *end]
    sizes = [len(part) for part in each]
    kept = [True] * sizes[0] + [False] * sizes[1] + [True] * sizes[2] + [False] * sizes[3]
    assert given.keep == kept + [True] * len(end)


def test_a_part_does_not_merge_with_its_neighbour(tokenizer):
    whole = tokenizer.encode("model")
    ids, _ = encode_parts(tokenizer, answer("model"), [Part("mo", "kept"), Part("del", "open")])
    apart = tokenizer.encode("mo") + tokenizer.encode("del")
    assert ids[: len(apart)] == apart != whole


def test_a_special_token_in_a_part_is_plain_text(tokenizer):
    said = "a <turn|> b"
    text = MarkedText(f"{said}<turn|>", ((len(said), len(said) + 7),))
    ids, _ = encode_parts(tokenizer, text, [Part(said, "kept")])
    assert ids.count(tokenizer.turn_end_id) == 1 and ids[-1] == tokenizer.turn_end_id


@pytest.mark.parametrize(
    ("text", "parts", "error"),
    [
        ("1 2", [Part("1 3", "open")], "the parts of an answer are '1 3', but the chat template"),
        ("1", [Part("1", "free")], "a part is kept or open or start, not 'free'"),
        ("1", [Part("1", "start", "1 2")], "a part starts from '1 2' with 2 tokens, but its text"),
        ("1", [Part("1", "start")], "a part starts from '' with 0 tokens"),
    ],
)
def test_parts_that_do_not_fit(tokenizer, text, parts, error):
    with pytest.raises(ValueError, match=error):
        encode_parts(tokenizer, answer(text), parts)


def test_a_row_says_what_is_given_and_keeps_the_fill(tokenizer):
    packer = Packer(ChatTemplate(tokenizer), prompt_length=16, canvas_size=4, num_canvases=3)
    asked = conversation("Say", "1 2 3 4")
    parts = [Part("1", "kept"), Part(" 2", "open"), Part(" 3", "start", " 9"), Part(" 4", "open")]
    row, plain = packer(asked, parts), packer(asked)
    for name, value in plain.items():
        np.testing.assert_array_equal(row[name], value)
    assert set(row) - set(plain) == {"given", "keep"}
    start, end = int(plain["prompt_len"]), int(plain["prompt_len"]) + 8  # two canvases
    expected = row["tokens"].copy()
    expected[:start] = expected[end:] = NOTHING
    expected[[start + 1, start + 3]] = NOTHING
    (expected[start + 2],) = tokenizer.encode(" 9")
    np.testing.assert_array_equal(row["given"], expected)
    kept = [start, *range(start + 4, end)]  # the token that ends the turn, and three eos
    assert np.flatnonzero(row["keep"]).tolist() == kept
    assert row["given"].dtype == np.int32 and row["keep"].dtype == bool


def test_of_an_answer_without_parts_nothing_is_given(tokenizer):
    packer = Packer(ChatTemplate(tokenizer), prompt_length=16, canvas_size=4, num_canvases=3)
    asked = conversation("Say", "1 2 3 4")
    row, plain = packer(asked, []), packer(asked)
    for name, value in plain.items():
        np.testing.assert_array_equal(row[name], value)
    assert (row["given"] == NOTHING).all() and not row["keep"].any()
