"""Expressions, schemas and given texts that want to do harm: each is refused in one line."""

import importlib
import re

import numpy as np
import pytest

from sample.given import Given, check_given
from scripts.trials.bad_input import tiny_checkpoint
from scripts.trials.hostile_demands import HOSTILE_DEMANDS

# Those that take seconds of processor time to refuse, as they may, are left to the script.
SLOW = ("all of Unicode", "a slow pattern", "slow spans")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "model"
    tiny_checkpoint(path)
    return path


def test_names_are_unique():
    assert len({case.name for case in HOSTILE_DEMANDS}) == len(HOSTILE_DEMANDS)


@pytest.mark.parametrize(
    "case",
    [case for case in HOSTILE_DEMANDS if not case.name.partition(": ")[2].startswith(SLOW)],
    ids=lambda case: case.name,
)
def test_it_is_refused_in_one_line(case, folder, monkeypatch, capsys):
    # A limit of time ends the one of 2**24 states here, of memory in the script.
    monkeypatch.setattr("data.text.byte_automaton.SECONDS", 0.5)
    case.prepare(folder)
    module, *flags = case.argv(folder)
    capsys.readouterr()
    assert importlib.import_module(module).main([module, *flags]) == 2
    said = capsys.readouterr()
    *before, line = said.err.splitlines()
    assert line.startswith("error: ") and re.search(case.word, line), line[:500]
    assert said.out == "" and len(line) < 1000 and "\x1b" not in said.err
    assert "Traceback" not in "".join(before)


WRONG = {
    "behind the canvases": (np.zeros((1, 9)), np.ones((1, 9), bool), "9 tokens are given"),
    "negative": (np.full((1, 8), -2), np.zeros((1, 8), bool), "-2 is given as a token"),
    "far below": (np.full((1, 8), -(2**40)), np.zeros((1, 8), bool), "is given as a token"),
    "beyond the vocabulary": (np.full((1, 8), 64), np.ones((1, 8), bool), "64 is given"),
    "beyond 32 bits": (np.full((1, 8), 2**32), np.ones((1, 8), bool), "4294967296 is given"),
    "kept nothing": (np.full((1, 8), -1), np.ones((1, 8), bool), "nothing is given for it"),
    "one row too many": (np.zeros((2, 8)), np.ones((2, 8), bool), "must both be"),
    "one axis": (np.zeros(8), np.ones(8, bool), "must both be"),
    "no axis": (np.zeros(()), np.ones((), bool), "must both be"),
    "other shapes": (np.zeros((1, 8)), np.ones((1, 7), bool), "must both be"),
    "texts": (np.full((1, 8), "a"), np.ones((1, 8), bool), "must be integers"),
    "numbers for keep": (np.zeros((1, 8)), np.ones((1, 8)), "must be bool"),
    "NaN": (np.full((1, 8), np.nan), np.ones((1, 8), bool), "must be integers"),
    "a million": (np.zeros((1, 10**6)), np.ones((1, 10**6), bool), "1000000 tokens are given"),
}


@pytest.mark.parametrize("name", WRONG)
def test_given_tokens_that_cannot_be(name):
    tokens, keep, word = WRONG[name]
    whole = tokens if name in ("texts", "NaN") else tokens.astype(np.int64)
    with pytest.raises(ValueError, match=word) as error:
        check_given(Given(whole, keep), 1, 8, 64)
    assert "\n" not in str(error.value)
