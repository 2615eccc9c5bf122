"""Needles: their place, the one word that identifies them, exact lengths, and the task."""

import itertools
import re

import numpy as np
import pytest

from data.pipeline import Packer
from data.tasks.needle import DIGITS, NUMBERS, SHORTEST, NeedleSource, NeedleTask
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import chat_prompt

SIZE = 200


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer.load()


def items(**options) -> list[dict[str, str]]:
    source = NeedleSource(**{"seed": 3, "size": SIZE, "longest": 400, **options})
    return [source[i] for i in range(len(source))]


def parts(item: dict[str, str]) -> tuple[list[str], str]:
    """The words of the text, and the word that is asked for."""
    text, word = re.fullmatch(r"Read: (.*)\nWhat number is after (\w+)\?", item["prompt"]).groups()
    return text.split(" "), word


def numbers(text: list[str]) -> list[int]:
    """The places of the words with digits after them. Digits stand nowhere else."""
    found = [i for i in range(len(text) - 1) if text[i].isalpha() and text[i + 1].isdecimal()]
    assert all(text[i + 1 + k].isdecimal() for i in found for k in range(DIGITS))
    assert sum(t.isdecimal() for t in text) == DIGITS * len(found)
    return found


@pytest.mark.parametrize("anywhere", [True, False])
def test_the_answer_is_the_number_after_the_one_word_that_is_asked_for(anywhere):
    depths, others = [], 0
    for item in items(anywhere=anywhere):
        text, word = parts(item)
        assert text.count(word) == 1
        at = text.index(word)
        assert " ".join(text[at + 1 : at + 1 + DIGITS]) == item["answer"]
        depths.append(at / len(text))
        others += len(numbers(text)) - 1
    if anywhere:
        np.testing.assert_allclose(
            np.quantile(depths, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.1
        )
    else:
        assert max(depths) == 0
    words = sum(sum(t.isalpha() for t in parts(item)[0]) for item in items(anywhere=anywhere))
    assert others / words == pytest.approx(NUMBERS, rel=0.15)


def test_dense_texts_have_up_to_as_many_numbers_as_words():
    shares = []
    for item in items(dense=True, shortest=400, longest=400):
        text, word = parts(item)
        assert text.count(word) == 1
        shares.append(len(numbers(text)) / sum(t.isalpha() for t in text))
    # The shares are drawn log-uniformly from NUMBERS to 1. Their median is the root of NUMBERS.
    assert min(shares) < 2 * NUMBERS and max(shares) > 0.9
    assert np.median(shares) == pytest.approx(NUMBERS**0.5, rel=0.3)


def test_lengths_are_exact_and_log_uniform(tok):
    for length in (SHORTEST, 57, 400):
        for item in items(shortest=length, longest=length, size=10):
            assert len(tok.encode(chat_prompt(item["prompt"]))) == length
    drawn = [len(tok.encode(chat_prompt(item["prompt"]))) for item in items(longest=512)]
    assert SHORTEST <= min(drawn) < 40 and 420 < max(drawn) <= 512
    between, _ = np.histogram(drawn, [32, 64, 128, 256, 513])
    assert (abs(between - SIZE / 4) < 4 * (SIZE / 4 * 3 / 4) ** 0.5).all()


def test_items_depend_on_seed_and_index_alone():
    source = NeedleSource(3, SIZE, 400)
    assert [source[i] for i in reversed(range(SIZE))] == items()[::-1]
    prompts = {item["prompt"] for item in items() + items(seed=4)}
    assert len(prompts) == 2 * SIZE
    for index in (-1, SIZE):
        with pytest.raises(IndexError):
            source[index]
    for ends in ({"shortest": SHORTEST - 1}, {"longest": 31}, {"shortest": 50, "longest": 49}):
        with pytest.raises(ValueError, match="a needle takes 32 or more"):
            items(**ends)


def test_a_run_has_rows_of_it_and_holds_other_ones_out(tok):
    packer, task = Packer(ChatTemplate(tok), 64, 8, 1), NeedleTask(longest=64)
    splits = task.open(5, packer)
    train, test = ([source[i]["prompt"] for i in range(50)] for source in splits)
    assert not set(train) & set(test)
    # Even seeds train and odd seeds are held out, in every run.
    assert (train[0], test[0]) == tuple(NeedleSource(k, 1, 64)[0]["prompt"] for k in (10, 11))
    dense = NeedleTask(longest=64, shortest=50, dense=True).open(5, packer).train
    assert dense[0] == NeedleSource(10, 1, 64, 50, dense=True)[0] != splits.train[0]
    assert task.open(5, packer, test=False).test is None
    for source in splits:
        for i in range(50):
            row = packer(task.conversation(source[i]))
            tokens, length = row["tokens"], row["prompt_len"]
            assert tokens.shape == (72,) and SHORTEST <= length <= 64
            answer = tok.encode(source[i]["answer"])
            expected = [*answer, tok.turn_end_id, *[tok.eos_id] * (7 - len(answer))]
            assert tokens[length : length + 8].tolist() == expected
    with pytest.raises(ValueError, match="a needle takes 32 or more"):
        NeedleTask(longest=20)


def test_bins_are_by_length_and_double():
    task = NeedleTask(longest=600)
    items = task.held_out(1, [300], check=None)
    bins = task.bins(items)["length"]
    assert list(bins) == [f"up to {n} words" for n in ("64", "128", "256", "512", "1,024")]
    words = np.array([len(item["prompt"].split()) for item in items])
    assert words.max() > 512  # a prompt of 600 tokens
    limits = [0, 64, 128, 256, 512, 1024]
    for inside, (low, high) in zip(bins.values(), itertools.pairwise(limits), strict=True):
        assert inside.tolist() == [low < n <= high for n in words]
        assert inside.any()
    edges = [{"prompt": "a " * n, "answer": "1"} for n in (64, 65, 128, 129)]
    assert [rows.tolist() for rows in task.bins(edges)["length"].values()] == [
        [True, False, False, False],
        [False, True, True, False],
        [False, False, False, True],
    ]
    assert list(task.bins([{"prompt": "Read: a b", "answer": "1"}])["length"]) == ["up to 64 words"]


def test_scores_count_the_digits_at_their_places():
    task, item = NeedleTask(), {"prompt": "Read: ...", "answer": "1 2 3 4 5"}
    assert task.text(item) == ("Read: ...", "1 2 3 4 5")
    for answer, scores in [
        ("1 2 3 4 5", (1, 1, 1)),
        (" 1 2 3 4 5\n", (1, 1, 1)),
        ("1 2 0 4 5", (0, 1, 0.8)),
        ("0 1 2 3 4 5", (0, 1, 0)),
        (" ", (0, 0, 0)),
    ]:
        assert task.score(item, answer) == dict(zip(task.measures, scores, strict=True))
