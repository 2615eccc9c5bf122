"""Scores of known answers, replays, and figures of hand-made outcomes."""

import dataclasses
import json
import time

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.measures import wilson
from data.sudoku import replay_strip
from data.sudoku.grids import prompt, render
from data.tasks.sudoku import SudokuTask
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from diffusiongemma.head import Prediction
from sample import SamplerConfig
from tests.data.text.messages import chat_answer, chat_prompt
from tests.train.outcomes import BOX, CANVAS, CONFIG, five_puzzles, outcome, small_puzzles
from train.evaluation import Evaluation
from train.outcome import paired, summarize, typical
from train.report import write_report
from train.results import EvaluationPlan, measure


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load()


@pytest.fixture(scope="module")
def template(tokenizer):
    return ChatTemplate(tokenizer)


@pytest.fixture(scope="module")
def puzzles():
    return small_puzzles()


class Oracle(nnx.Module):
    """A model that is sure of answers[i] if the prompt is prompts[i], from the first step on."""

    def __init__(self, prompts: np.ndarray, answers: np.ndarray):
        self.config, self.dtype = CONFIG, jnp.float32
        self.prompts, self.answers = nnx.Param(jnp.array(prompts)), nnx.Param(jnp.array(answers))

    def init_cache(self, batch_size, max_length):
        return jnp.zeros(batch_size, jnp.int32)

    def encode(self, tokens, cache, mask, *, logits):
        same = (tokens[:, None] == self.prompts[...]).all(-1)
        return None, jnp.argmax(same, axis=1)

    def predict(self, canvas, cache, soft, temperature, noise):
        answer = self.answers[...][cache]
        return Prediction(answer, answer, jnp.zeros(answer.shape), soft)


@pytest.fixture(scope="module")
def oracle(tokenizer, puzzles):
    """A model with five answers.

    They are the solution, another valid grid, a grid with a wrong cell, a text without a grid, and
    the solution without the token that ends the turn.
    """
    grids, solutions = ([item[name] for item in puzzles] for name in ("puzzle", "solution"))
    relabelled = solutions[1] % 4 + 1
    wrong = solutions[2].copy()
    empty = np.flatnonzero(grids[2] == 0)[0]
    wrong[empty] = wrong[empty] % 4 + 1
    texts = [chat_answer(render(g)) for g in (solutions[0], relabelled, wrong)]
    texts += [chat_answer("Solve it: 1 2 3"), render(solutions[4])]
    answers = np.full((5, CANVAS), tokenizer.eos_id, np.int32)
    for row, text in zip(answers, texts, strict=True):
        ids = tokenizer.encode(text)
        row[: len(ids)] = ids
    prompts = np.array([tokenizer.encode(chat_prompt(prompt(grid))) for grid in grids])
    return Oracle(prompts, answers)


@pytest.fixture(scope="module")
def evaluation(oracle, template, puzzles):
    return Evaluation(oracle, template, SudokuTask(box=BOX), puzzles, batch_size=2)


def test_known_answers_are_scored(evaluation, puzzles):
    done = []
    got = evaluation.run(SamplerConfig(), progress=done.append)
    assert got.exact.tolist() == [True, False, False, False, True]
    assert got.scores["valid"].tolist() == [True, True, False, False, True]
    assert got.scores["clues_kept"].tolist() == [True, False, True, False, True]
    empty = np.sum(puzzles[2]["puzzle"] == 0)
    np.testing.assert_allclose(got.scores["parts"], [1, 0, (empty - 1) / empty, 0, 1])
    solutions = [item["solution"] for item in puzzles]
    assert got.answers[0] == render(solutions[0]) and got.answers[4] == render(solutions[4])
    assert got.answers[3] == "Solve it: 1 2 3"
    assert got.steps.tolist() == [[2]] * 5
    # The end of the turn counts, or where it is missing the first token of the fill.
    length = len(evaluation.template.tokenizer.encode(render(solutions[0]))) + 1
    assert got.valid_tokens[[0, 4]].tolist() == [[length], [length]]
    assert done == [2, 2, 1]
    assert (got.seconds > 0).all()


def test_some_items_get_what_they_get_among_all(evaluation):
    rows = np.array([4, 1, 3])
    some, every = evaluation.run(SamplerConfig(), rows), evaluation.run(SamplerConfig())
    assert some.answers.tolist() == every.answers[rows].tolist()
    assert all((some.scores[name] == every.scores[name][rows]).all() for name in every.scores)
    taken = every.take(rows)
    assert taken.answers.tolist() == some.answers.tolist()
    assert taken.compile_seconds == every.compile_seconds


def test_time_without_compilation(oracle, template, puzzles):
    evaluation = Evaluation(oracle, template, SudokuTask(box=BOX), puzzles)
    began = time.perf_counter()
    first = evaluation.run(SamplerConfig(max_steps=47))
    whole = time.perf_counter() - began
    second = evaluation.run(SamplerConfig(max_steps=47))
    assert first.compile_seconds > 0.05
    assert second.compile_seconds < first.compile_seconds / 5
    # No second is counted twice, however quick the compiler is.
    assert first.seconds.sum() + first.compile_seconds < whole


def test_replay_shows_every_step(evaluation, puzzles, monkeypatch):
    drawn = []
    monkeypatch.setattr(replay_strip, "replay_strip", lambda *arrays: drawn.append(arrays))
    task, sampler = SudokuTask(box=BOX), SamplerConfig(max_steps=4)
    got = evaluation.replay(0, sampler)
    assert got.accepted.shape == got.entropy.shape == (2, CANVAS)  # it stops at the second step
    assert [len(step) for step in got.pieces] == [CANVAS, CANVAS] and got.limit == 4
    task.picture(puzzles[0], got)
    puzzle, solution, shown, accepted, entropy, limit, _ = drawn.pop()
    assert (puzzle == puzzles[0]["puzzle"]).all() and limit == 4
    assert (shown == solution).all() and shown.shape == (2, 16)
    assert accepted.tolist() == [[True] * 16, [False] * 16]
    assert entropy.min() >= 0 and entropy.max() < 1e-3
    # "Solve it: 1 2 3" has digits where it has them, 0 elsewhere.
    task.picture(puzzles[3], evaluation.replay(3, sampler))
    shown = drawn.pop()[2]
    assert 0 < np.mean(shown == 0) < 1 and shown.max() <= 3


def test_a_tokenizer_that_joins_digits_has_no_picture(evaluation, puzzles):
    got = evaluation.replay(0, SamplerConfig(max_steps=4))
    assert SudokuTask(box=BOX).picture(puzzles[0], got._replace(expected=got.expected[2:])) is None


def test_an_answer_of_two_canvases_has_no_picture(oracle, template, puzzles):
    evaluation = Evaluation(oracle, template, SudokuTask(box=BOX), puzzles, canvases=2)
    got = evaluation.replay(0, SamplerConfig(max_steps=4))
    half = CANVAS // 2
    got = got._replace(
        pieces=[step[:half] for step in got.pieces],
        accepted=got.accepted[:, :half],
        entropy=got.entropy[:, :half],
    )
    assert SudokuTask(box=BOX).picture(puzzles[0], got) is None


class Guesses(Oracle):
    """As Oracle, but start 0 says answers[3]; of prompt i, the start sure[i] is the surest."""

    def __init__(self, oracle: Oracle, sure: list[int]):
        super().__init__(oracle.prompts[...], oracle.answers[...])
        self.sure = nnx.Param(jnp.array(sure))

    def predict(self, canvas, cache, soft, temperature, noise):
        starts = len(canvas) // len(cache)
        start = jnp.arange(len(canvas)) % starts
        row = jnp.repeat(cache, starts)
        answer = self.answers[...][jnp.where(start == 0, 3, row)]
        entropy = jnp.where(start == self.sure[...][row], 0.001, 0.002)
        return Prediction(answer, answer, jnp.broadcast_to(entropy[:, None], answer.shape), soft)


def test_several_starts_are_counted_and_reported(oracle, template, puzzles, tmp_path):
    """Start 1 alone is right, for items 0 and 4. It is taken for item 0, and start 0 for item 4."""
    guesses = Guesses(oracle, [1, 0, 1, 1, 0])
    evaluation = Evaluation(guesses, template, SudokuTask(box=BOX), puzzles, batch_size=2)
    results, files = measure(evaluation, SamplerConfig(starts=2), EvaluationPlan(False, (2,)))
    mode = results["modes"]["early_stop"]
    low, high = wilson(1, 5)
    assert mode["exact"] == {"rate": 0.2, "low": low, "high": high, "count": 5}
    assert mode["steps"]["mean"] == mode["steps"]["effective"] == 4
    assert mode["starts"] == {
        "count": 2,
        "each": [0, 0.4],
        "one": {"rate": 0.2, "low": low, "high": high, "count": 5},
        "any": {"rate": 0.4, **dict(zip(("low", "high"), wilson(2, 5), strict=True)), "count": 5},
        "effective_steps": 2,
        "only_taken": 1,
        "only_first": 0,
    }
    # One start takes the budgets, and a replay has the steps of the start that was taken.
    assert results["budgets"][0]["mean_steps"] == 2 and results["replay"]["steps"] == 2
    results |= {"command": "x", "checkpoint": "x", "items": "held out", "device": "CPU"}
    write_report(tmp_path, results, files)
    text = " ".join((tmp_path / "REPORT.md").read_text().split())
    assert "Each answer is the surest of 2 starts. One start has 20.0 % [3.6, 62.4]" in text
    assert "| solved exactly, by any start | 40.0 % [11.8, 76.9] |" in text
    assert "| puzzles that only the surest start gets right, not the first | 1 |" in text
    assert "solved exactly, by one start, without early stopping" in text


def test_outcomes_of_starts_are_taken_with_their_items(oracle, template, puzzles):
    guesses = Guesses(oracle, [1, 0, 1, 1, 0])
    sampler, task = SamplerConfig(starts=2), SudokuTask(box=BOX)
    found = Evaluation(guesses, template, task, puzzles, batch_size=2).run(sampler)
    assert found.starts.exact.tolist() == [[0, 1], [0, 0], [0, 0], [0, 0], [0, 1]]
    some = found.take(np.array([4, 1]))
    assert some.starts.exact.tolist() == [[0, 1], [0, 0]]
    assert (some.starts.steps == 2).all() and (some.steps == 4).all()
    # With two canvases no start has an answer of its own.
    two = Evaluation(guesses, template, task, puzzles, canvases=2, batch_size=2)
    assert two.run(sampler, np.array([0, 4])).starts is None


def test_typical_puzzle(evaluation):
    outcome = evaluation.run(SamplerConfig())
    steps = np.array([[9], [1], [1], [1], [4]], np.int32)
    for exact, row in (([1, 0, 0, 1, 1], 4), ([0] * 5, 1)):
        scores = outcome.scores | {"exact": np.array(exact, float)}
        assert typical(dataclasses.replace(outcome, steps=steps, scores=scores)) == row


def test_summary_of_known_outcome():
    puzzles = five_puzzles()
    found = outcome([1, 1, 0, 1, 0], [2, 4, 6, 8, 40], [10, 10, 10, 10, 40])
    got = summarize(found, SudokuTask().bins(puzzles))
    low, high = wilson(3, 5)
    assert got["exact"] == {"rate": 0.6, "low": low, "high": high, "count": 5}
    assert got["parts"]["rate"] == pytest.approx(0.7)
    assert got["clues_kept"]["rate"] == got["clues_kept"]["high"] == 1
    assert got["steps"]["mean"] == 12 and got["steps"]["quartiles"] == [4, 6, 8]
    assert got["steps"]["effective"] == (20 + 40 + 60 + 80 + 1600) / 80
    assert got["tokens_per_forward"] == 80 / 60
    assert got["seconds_per_item"] == 0.5 and got["compile_seconds"] == 3
    by_clues, by_technique = got["bins"]["clues"], got["bins"]["technique"]
    bins = {name: (b["count"], b["exact"]["rate"]) for name, b in by_clues.items()}
    assert bins == {"40 or more clues": (3, 2 / 3), "30-39 clues": (2, 0.5)}
    assert by_clues["30-39 clues"]["mean_steps"] == 24
    assert sum(b["count"] for b in by_technique.values()) == 5
    json.dumps(got, allow_nan=False)


def test_canvases_are_summed_up_by_answer():
    """Two canvases for the first answer, one for the second: a canvas not begun does not count."""
    found = dataclasses.replace(
        outcome([1, 0]),
        steps=np.array([[3, 5], [4, 0]], np.int32),
        valid_tokens=np.array([[10, 2], [6, 0]], np.int32),
    )
    got = summarize(found, {})
    assert got["steps"]["mean"] == got["mean_steps"] == 6
    assert got["steps"]["effective"] == (30 + 10 + 24) / 18
    assert got["tokens_per_forward"] == 18 / (12 + 3 - 2)  # one commit, between the two
    assert got["bins"] == {}


def test_pairs_are_counted():
    early, full = outcome([1, 1, 1, 0, 0, 0]), outcome([1, 1, 0, 1, 0, 0])
    assert paired(early, full) == {
        "both": 2, "only_early_stop": 1, "only_all_steps": 1, "neither": 2, "same_answer": 4,
    }  # fmt: skip
