"""The best accepted string, draws and marginals, against all strings tried one by one."""

import re

import numpy as np
import pytest

from sample.given import Given
from sample.obey import Constraint, advance, find_completions
from tests.sample.obeying import (
    EOS,
    TEMPERATURE,
    TEXTS,
    V,
    accepted_answers,
    automaton_of,
    obeyed,
    propose_obeyed,
    random_regex,
)

SIZE, LENGTH = 3, 5  # answers of a canvas and two tokens of the next one


def best_of(answers: np.ndarray, logits: np.ndarray) -> float:
    """The largest score of answers [A, n] under logits [n, V]."""
    return logits[np.arange(answers.shape[1]), answers].sum(axis=1).max()


def held(best: np.ndarray, kept: Given | None, begin: int) -> np.ndarray:
    """A canvas [1, C] from position `begin` on, with the kept tokens as keep_proposed puts them."""
    if kept is not None:
        tokens, keep = (x[:, begin : begin + SIZE] for x in kept)
        best[:, : tokens.shape[1]][keep] = tokens[keep]
    return best


def test_the_best_string_is_the_best_of_all_strings(many):
    rng, cases, impossible, with_kept = np.random.default_rng(0), 0, 0, 0
    while cases < (500 if many else 150):
        expression = random_regex(rng)
        automaton, answers = automaton_of(expression), accepted_answers(expression, LENGTH)
        if not len(answers):
            with pytest.raises(ValueError, match="shortest"):
                find_completions(automaton, LENGTH, None)
            impossible += 1
            continue
        kept = None
        if cases % 2:  # some tokens of an answer are kept
            some = answers[rng.integers(len(answers))][None].astype(np.int32)
            kept = Given(some, rng.random(some.shape) < 0.3)
            tokens, keep = kept.tokens[0], kept.keep[0]
            answers = answers[(answers[:, keep] == tokens[keep]).all(axis=1)]
            with_kept += keep.any()
        logits = rng.normal(size=(1, 2 * SIZE, V)).astype(np.float32) * 3
        first = held(obeyed(automaton, logits[:, :SIZE], LENGTH, given=kept).best, kept, 0)
        scored = logits[0].copy()
        if kept is not None:  # a kept token costs nothing, whatever the model says of it
            scored[:LENGTH][kept.keep[0]] = 0
        score = scored[np.arange(SIZE), first[0]].sum()
        assert score == pytest.approx(best_of(answers[:, :SIZE], scored[:SIZE]), abs=1e-4)
        rest = answers[(answers[:, :SIZE] == first[0]).all(axis=1)]
        assert len(rest), expression
        state = np.asarray(advance(Constraint(automaton).tables, np.zeros(1, np.int32), first))
        second = obeyed(automaton, logits[:, SIZE:], LENGTH, state, 1, kept).best
        second = held(second, kept, SIZE)[0]
        whole = np.concatenate([first[0], second[:2]])
        assert (rest == whole).all(axis=1).any(), expression
        score = scored[np.arange(SIZE, LENGTH), second[:2]].sum()
        assert score == pytest.approx(best_of(rest[:, SIZE:], scored[SIZE:LENGTH]), abs=1e-4)
        assert second[2] == -1  # behind the last token nothing is demanded
        cases += 1
    assert impossible > cases / 50 and with_kept > cases / 5


def conditional(answers: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The probability of each answer [A, n], given that one of them is drawn."""
    scores = (logits[np.arange(answers.shape[1]), answers] / TEMPERATURE).sum(axis=1)
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


@pytest.mark.parametrize("expression", ["(?:a|ab)*b?", "a{1,3}|b+a", "ab(?:ab|ba)?"])
def test_draws_and_marginals_are_those_of_the_accepted_strings(expression):
    rows, size = 4_000, 4
    logits = np.random.default_rng(1).normal(size=(size, V)).astype(np.float32)
    answers = accepted_answers(expression, size)
    p = conditional(answers, logits)
    found = obeyed(automaton_of(expression), np.repeat(logits[None], rows, axis=0), size)
    place = {tuple(answer): i for i, answer in enumerate(answers.tolist())}
    counts = np.zeros(len(answers))
    for drawn in found.drawn.tolist():
        counts[place[tuple(drawn)]] += 1  # a KeyError if it is not accepted
    error = np.abs(counts / rows - p) / np.sqrt(p * (1 - p) / rows)
    assert error.max() < 4.5
    marginal = np.zeros((size, V))
    for answer, share in zip(answers, p, strict=True):
        marginal[np.arange(size), answer] += share
    np.testing.assert_allclose(found.soft[0], marginal, atol=1e-5)
    top = np.sort(marginal, axis=1)[:, ::-1][:, :2]  # the two candidates
    np.testing.assert_allclose(found.probabilities[0], top, atol=1e-5)
    ids = found.ids[0]
    assert ((ids < 0) == (top < 1e-9)).all()
    own = np.take_along_axis(marginal, np.maximum(ids, 0), axis=1)
    np.testing.assert_allclose(np.where(ids < 0, 0, own), top, atol=1e-5)
    entropy = -(marginal * np.log(np.maximum(marginal, 1e-30))).sum(axis=1)
    np.testing.assert_allclose(found.entropy[0], entropy, atol=1e-4)


def test_only_what_is_emitted_obeys_if_not_every_step_does():
    logits = np.random.default_rng(2).normal(size=(2, SIZE, V)).astype(np.float32)
    automaton = automaton_of("ab*")
    found = obeyed(automaton, logits, SIZE, every_step=False)
    np.testing.assert_array_equal(found.best, obeyed(automaton, logits, SIZE).best)
    assert all((array == -1).all() for array in found[1:])


def test_without_stop_tokens_an_answer_has_all_tokens():
    logits = np.random.default_rng(4).normal(size=(40, 4, V)).astype(np.float32)
    automaton = automaton_of("(?:a|bb)*", stop_ids=())
    found = obeyed(automaton, logits, 4)
    for tokens in (*found.best.tolist(), *found.drawn.tolist()):
        assert re.fullmatch("(?:a|bb)*", "".join(TEXTS[token].decode() for token in tokens))


def test_probabilities_that_float32_cannot_hold_change_nothing():
    """Every accepted string has a probability below 1e-38."""
    logits = np.zeros((1, 4, V), np.float32)
    logits[..., EOS] = 75
    found = obeyed(automaton_of("(?:ab|ba){4}|bb"), logits, 4)
    np.testing.assert_allclose(found.entropy[0, 2:], [0, 0.0], atol=1e-4)
    assert found.best[0].tolist()[3] == EOS and found.best[0, 2] == 1


def test_positions_are_read_in_chunks_with_the_same_result(monkeypatch):
    logits = np.random.default_rng(3).normal(size=(3, 6, V)).astype(np.float32)
    automaton = automaton_of("(?:a|bb)+")
    whole = obeyed(automaton, logits, 6)
    monkeypatch.setattr("sample.candidates.CHUNK_BYTES", 4 * 3 * V * 2)
    propose_obeyed.clear_cache()  # a program reads the limit when it is made
    for array, expected in zip(obeyed(automaton, logits, 6), whole, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-6)
    propose_obeyed.clear_cache()
