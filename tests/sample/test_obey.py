"""Answers that obey: random demands and random weights, checked by Python's re and jsonschema."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest

from data.text.byte_automaton import compile_regex
from data.text.json_schema import schema_regex
from sample import (
    AutoregressiveConfig,
    Constraint,
    Generation,
    Given,
    Proposal,
    SamplerConfig,
    SplitModel,
    Step,
    generate,
    generate_autoregressive,
)
from sample.automaton import token_automaton
from tests.sample.obeying import random_regex, random_schema

KEY = jax.random.key(5)
PAD, STOP, VOCABULARY, CANVAS = 0, 1, 64, 12
CHARACTERS = 'abdeflnrstu0123456789{}[]":, .-+E\\/'
JOINED = (
    "ab",
    "aa",
    '":',
    '", "',
    "true",
    "false",
    "null",
    '{"',
    '"}',
    "[[",
    "10",
    "ul",
    "]}",
    ',"',
)
NEW = 20  # a canvas, and a part of the next one


def texts() -> list[bytes | None]:
    """The text of each token of the tiny model's vocabulary."""
    spelled = [None, None, None, *(text.encode() for text in (*CHARACTERS, *JOINED))]
    return spelled + [None] * (VOCABULARY - len(spelled))


def constraint_of(expression: str, stop_ids=(STOP,), every_step: bool = True) -> Constraint:
    automaton = token_automaton(compile_regex(expression), texts(), VOCABULARY, stop_ids, (PAD,))
    return Constraint(automaton, every_step)


def text_of(tokens: np.ndarray) -> str:
    """The text of an answer. Behind its stop token, and only there, is fill."""
    stops = np.flatnonzero(tokens == STOP)
    end = stops[0] if stops.size else len(tokens)
    assert np.isin(tokens[end:], (PAD, STOP)).all()
    return b"".join(texts()[token] for token in tokens[:end]).decode()


@pytest.fixture(scope="module", autouse=True)
def one_size():
    """Arrays of one size for all automata of these tests, so that few programs are compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sample.accepted.SMALLEST", 256)
        yield


@pytest.fixture(scope="module")
def model(lively_model) -> SplitModel:
    return SplitModel(lively_model)


@pytest.fixture(scope="module")
def config() -> SamplerConfig:
    return SamplerConfig(max_steps=2, entropy_bound=1.0, stop_ids=(STOP,), max_new_tokens=NEW)


@pytest.fixture(scope="module")
def run(model, config):
    """generate() for a ragged batch of four rows, or for some of them."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, 49, (4, 6)).astype(np.int32)
    mask = np.arange(6) < np.array([6, 2, 4, 1])[:, None]

    def run(obey: Constraint, rows=slice(None), **options) -> Generation:
        changed = dataclasses.replace(config, **options.pop("config", {}))
        # By default nothing is given, so that most tests share a program.
        nothing = np.full((4, 1), -1)[rows]
        options = {"given": Given(nothing, nothing > 0), "obey": obey} | options
        return generate(model, prompts[rows], mask[rows], KEY, changed, **options)

    return run


def test_random_expressions_and_schemas_are_obeyed(run, many):
    rng, answers, impossible, two_canvases = np.random.default_rng(1), 0, 0, 0
    wanted = 4000 if many else 240  # four rows to a demand
    while answers < wanted:
        schema = random_schema(rng) if answers % 8 else None
        demand = random_regex(rng, "abd", 4) if schema is None else schema_regex(schema)
        try:
            out = run(constraint_of(demand))
        except ValueError as error:
            assert "the shortest answer" in str(error)
            impossible += 1
            continue
        for tokens in out.tokens:
            text = text_of(tokens)
            assert re.fullmatch(demand, text), (demand, text)
            if schema is not None:
                jsonschema.validate(json.loads(text), schema)
            two_canvases += len(text) > 0 and tokens[CANVAS] != PAD
            answers += 1
    assert two_canvases > wanted / 20 and impossible < wanted / 5


def test_kept_tokens_and_constraints_combine(run):
    """Some tokens of an accepted answer are kept, in two canvases, and differ from row to row."""
    rng = np.random.default_rng(2)
    for _ in range(6):
        length = int(rng.integers(14, 18))
        letters = rng.choice(["a", "b", "d"], (4, length))
        expression = f"[abd]{{{length - 2},{length}}}"
        tokens = np.array([[texts().index(c.encode()) for c in row] for row in letters], np.int32)
        keep = rng.random(tokens.shape) < 0.4
        out = run(constraint_of(expression), given=Given(tokens, keep))
        np.testing.assert_array_equal(out.tokens[:, :length][keep], tokens[keep])
        assert all(re.fullmatch(expression, text_of(row)) for row in out.tokens)
    for row in range(4):
        given = Given(tokens[row : row + 1], keep[row : row + 1])
        alone = run(constraint_of(expression), slice(row, row + 1), given=given)
        np.testing.assert_array_equal(alone.tokens[0], out.tokens[row])
        np.testing.assert_array_equal(alone.steps[0], out.steps[row])


def clumsy_rule(proposal: Proposal, data: None) -> Step:
    """A rule that does not obey: it emits noise, and accepts every draw."""
    return Step(
        best=proposal.noise,
        entropy=proposal.entropy,
        accepted=jnp.ones_like(proposal.entropy, bool),
        canvas=proposal.drawn,
        soft=proposal.soft,
    )


def test_draws_of_all_starts_obey_and_answers_obey_whatever_the_rule(run):
    """With the clumsy rule, the next canvas is the draw, and the model is asked about it."""
    seen, expression = [], "(?:ab|d[0-9]{2}){6}"

    def spy(proposal: Proposal, data: None) -> Step:
        jax.debug.callback(lambda drawn: seen.append(np.array(drawn)), proposal.drawn)
        return clumsy_rule(proposal, data)

    out = run(constraint_of(expression), rule=spy, config={"starts": 2})
    jax.effects_barrier()
    assert all(re.fullmatch(expression, text_of(tokens)) for tokens in out.tokens)
    assert len(seen) == 4  # two canvases of two steps
    ways = re.compile("(?:ab|d[0-9]{2})*(?:d[0-9]?|a)?")
    for tokens in np.concatenate(seen[:2]):
        assert ways.fullmatch(text_of(tokens))


def test_left_to_right_obeys(model):
    rng, cases = np.random.default_rng(4), 0
    prompts = np.arange(8, dtype=np.int32)[:, None] + 3
    config = AutoregressiveConfig(16, stop_ids=(STOP,))
    # Nothing is given, so that the next test shares the program.
    nothing = Given(np.full((8, 1), -1), np.zeros((8, 1), bool))
    for _ in range(25):
        expression = random_regex(rng, "abd", 4)
        try:
            out = generate_autoregressive(
                model, prompts, None, KEY, config, given=nothing, obey=constraint_of(expression)
            )
        except ValueError as error:
            assert "the shortest answer" in str(error)
            continue
        for tokens in out.tokens:
            assert re.fullmatch(expression, text_of(tokens)), (expression, tokens)
        cases += 1
    assert cases > 15


def test_left_to_right_goes_where_kept_tokens_can_follow(model):
    tokens = np.full((8, 13), -1, np.int32)
    places = np.arange(8) % 3 * 4
    tokens[np.arange(8), places] = d = texts().index(b"d")
    config = AutoregressiveConfig(16, stop_ids=(STOP,))
    prompts = np.arange(8, dtype=np.int32)[:, None] + 3
    expression = "(?:(?:[abef]{4})*d){1,2}"
    options = {"given": Given(tokens, tokens >= 0), "obey": constraint_of(expression)}
    out = generate_autoregressive(model, prompts, None, KEY, config, **options)
    assert (out.tokens[np.arange(8), places] == d).all()
    for row in out.tokens:
        assert re.fullmatch(expression, text_of(row))


def kept(token: bytes, place: int) -> Given:
    tokens = np.full((4, place + 1), -1, np.int32)
    tokens[2, place] = texts().index(token)
    return Given(tokens, tokens >= 0)


@pytest.mark.parametrize(
    ("expression", "options", "message"),
    [
        ("a{21}b", {}, "shortest answer that the constraint accepts has 11 tokens, but only 8"),
        ("a{3}", {"given": kept(b"b", 1)}, "row 2: token .* is kept at position 1, but no answer"),
        ("a{3}b", {"given": kept(b"b", 0)}, "row 2: no answer .* kept tokens at their places"),
        ("a{3}", {"given": kept(b"a", 5)}, "row 2: no answer"),
        ("[01]{3}", {"config": {"stop_ids": ()}}, "without stop tokens it must have so many"),
    ],
)
def test_what_no_answer_can_meet_is_said_before_a_step(run, expression, options, message):
    stop_ids = options.get("config", {}).get("stop_ids", (STOP,))
    given = {"config": {"max_new_tokens": 8}} | options
    given["config"] = {"max_new_tokens": 8} | given["config"]
    with pytest.raises(ValueError, match=message):
        run(constraint_of(expression, stop_ids), **given)
