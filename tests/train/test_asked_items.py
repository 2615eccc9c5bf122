"""Items of a task that gives a part of its answers, as the sampler gets them."""

import dataclasses

import jax
import numpy as np
import pytest

from data.tasks.task import Part, Splits, Task
from data.text.chat_template import ChatTemplate
from data.text.parts import NOTHING
from data.text.tokenizer import Tokenizer
from sample.given import Given
from train.asked_items import AskedItems, written


@dataclasses.dataclass(frozen=True)
class Echo(Task):
    """The same prompt for every item; the first word of the answer is kept."""

    name, title = "echo", "echo"

    def open(self, seed, check, test=True):
        return Splits(range(9), range(9))

    def text(self, item):
        return "Say", f"1 {item}"

    def parts(self, item):
        return [Part("1", "kept"), Part(f" {item}", "open")]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load()


@pytest.fixture(scope="module")
def asked(tokenizer):
    return AskedItems(ChatTemplate(tokenizer), Echo(), [2, 3, 3])


def test_what_is_given_ends_with_the_fill_of_the_answers_canvases(asked, tokenizer):
    one, end, eos = tokenizer.encode("1")[0], tokenizer.turn_end_id, tokenizer.eos_id
    given = asked.given(np.array([1, 0]), canvas_size=5, num_canvases=2)
    row = [one, NOTHING, end, eos, eos, *[NOTHING] * 5]
    assert given.tokens.tolist() == [row, row]
    assert given.keep.tolist() == [[token != NOTHING for token in row]] * 2
    bare = asked.given(np.array([1]), canvas_size=5, num_canvases=2, fill=False)
    assert bare.tokens[0].tolist() == [one, NOTHING, end, *[NOTHING] * 7]
    assert bare.keep[0].tolist() == [True, False, True, *[False] * 7]


def test_noise_depends_on_what_is_given_and_not_on_the_batch(asked):
    rows = np.arange(3)
    given = asked.given(rows, 5, 1)
    given.tokens[0, 1] = 7  # otherwise all items look the same

    def data(rows):
        keys = asked.keys(3, rows, Given(*(x[rows] for x in given)))
        return np.asarray(jax.random.key_data(keys))

    every = data(rows)
    assert (every[1] == every[2]).all() and (every[0] != every[1]).any()
    np.testing.assert_array_equal(data(np.array([2, 0])), every[[2, 0]])


def test_kept_tokens_are_not_written():
    keep = np.array([[True, False, False, True, True, False]])  # two canvases of three
    given = Given(np.where(keep, 5, NOTHING), keep)
    valid = np.array([[3, 2]])
    assert written(valid, given).tolist() == [[2, 0]]
    assert written(np.array([[1, 3]]), given).tolist() == [[0, 1]]
    assert written(np.array([[0, 0]]), given).tolist() == [[0, 0]]
    assert written(np.array([[[3, 1], [3, 1]]]), given).tolist() == [[[2, 0], [1, 0]]]
    assert written(valid, None) is valid
