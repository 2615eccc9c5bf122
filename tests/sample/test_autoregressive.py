"""Left-to-right decoding equals a full re-encoding at every token; top-k and top-p; chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sample import (
    AutoregressiveConfig,
    NonFiniteLogits,
    SplitModel,
    autoregressive,
    generate_autoregressive,
)
from sample.autoregressive import pick
from sample.prefill import prefill
from tests.conftest import Compiled

LENGTHS, PROMPT, NEW = (12, 1, 5, 12), 12, 10


@pytest.fixture(scope="module")
def prompts() -> tuple[np.ndarray, np.ndarray]:
    """Longer and shorter than the window of 8; padding left, right and between."""
    rng = np.random.default_rng(0)
    mask = np.zeros((4, PROMPT), bool)
    mask[0] = mask[3] = True
    mask[1, 4] = True
    mask[2, rng.choice(PROMPT, LENGTHS[2], replace=False)] = True
    return rng.integers(3, 49, mask.shape).astype(np.int32), mask


def reencoded(compiled: Compiled, prompt: np.ndarray, config: AutoregressiveConfig) -> list[int]:
    """Greedy decoding that reads everything anew for each token."""
    room = PROMPT + NEW
    text, found = list(prompt), []
    while len(found) < config.max_new_tokens:
        tokens = np.zeros((1, room), np.int32)
        tokens[0, : len(text)] = text
        mask = np.arange(room)[None] < len(text)
        logits, _ = compiled.encode(tokens, compiled.init_cache(1, room), mask)
        found.append(int(np.argmax(logits[0, len(text) - 1])))
        text.append(found[-1])
        if found[-1] in config.stop_ids:
            break
    return found


def test_greedy_equals_full_re_encoding(lively_model, prompts):
    tokens, mask = prompts
    free = AutoregressiveConfig(max_new_tokens=NEW, temperature=0, stop_ids=())
    compiled = Compiled(lively_model)
    expected = [reencoded(compiled, tokens[b, mask[b]], free) for b in range(4)]
    # A stop token that ends some rows early.
    stop = expected[0][4]
    for stop_ids in ((), (stop, 2)):
        config = AutoregressiveConfig(max_new_tokens=NEW, temperature=0, stop_ids=stop_ids)
        got = generate_autoregressive(lively_model, tokens, mask, jax.random.key(0), config)
        for b, row in enumerate(expected):
            ends = [i + 1 for i, token in enumerate(row) if token in stop_ids]
            valid = ends[0] if ends else NEW
            assert got.valid_tokens[b] == valid
            assert got.tokens[b].tolist() == row[:valid] + [0] * (NEW - valid)
    assert got.valid_tokens[0] <= 5


def test_an_answer_that_has_ended_is_not_gone_on_with(lively_model, prompts, monkeypatch):
    """The program is that of the test before; `ended` is asked every few tokens."""
    config = AutoregressiveConfig(max_new_tokens=NEW, temperature=0, stop_ids=())
    whole = generate_autoregressive(lively_model, *prompts, jax.random.key(0), config)
    monkeypatch.setattr(autoregressive, "PIECE", 4)
    asked = []

    def ended(tokens):
        asked.append(len(tokens))
        return tokens[0] in whole.tokens[:2, 0] and len(tokens) > 4  # at the second question

    got = generate_autoregressive(lively_model, *prompts, jax.random.key(0), config, ended=ended)
    stops = np.isin(whole.tokens[:, 0], whole.tokens[:2, 0])
    valid = np.where(stops, 8, NEW)
    assert NEW % 4 and got.valid_tokens.tolist() == valid.tolist() and not stops.all()
    expected = np.where(np.arange(NEW) < valid[:, None], whole.tokens, 0)
    np.testing.assert_array_equal(got.tokens, expected)
    assert asked[:8] == [4] * 4 + [8] * 4

    # If all have ended, nothing more is computed.
    steps, decode = [], autoregressive._decode
    monkeypatch.setattr(
        autoregressive, "_decode", lambda *args: steps.append(args[2]) or decode(*args)
    )
    every = {"ended": lambda tokens: True}
    generate_autoregressive(lively_model, *prompts, jax.random.key(0), config, **every)
    assert steps == [4]


def test_logits_that_are_no_numbers_are_an_error(lively_model, prompts):
    """The program is that of the test before, with a weight that is NaN."""
    model = SplitModel(lively_model)
    model.state["final_norm"]["scale"][...] = model.state["final_norm"]["scale"][...] * jnp.nan
    config = AutoregressiveConfig(max_new_tokens=NEW, temperature=0, stop_ids=())
    with pytest.raises(NonFiniteLogits, match="row 0 of the batch: the logits of token 1 are not"):
        generate_autoregressive(model, *prompts, jax.random.key(0), config)


@pytest.mark.parametrize("chunk", [None, 5])
def test_rows_draw_what_they_would_draw_alone(lively_model, prompts, chunk):
    tokens, mask = prompts
    config = AutoregressiveConfig(NEW, 6.0, top_k=20, top_p=0.9, stop_ids=(), prefill_chunk=chunk)
    keys = jax.random.split(jax.random.key(3), 4)
    batch = generate_autoregressive(lively_model, tokens, mask, keys, config)
    alone = generate_autoregressive(lively_model, tokens[2:3, mask[2]], None, keys[2:3], config)
    np.testing.assert_array_equal(batch.tokens[2], alone.tokens[0])
    again = generate_autoregressive(lively_model, tokens, mask, keys[::-1], config)
    assert (again.tokens != batch.tokens).any(axis=1).all()


def test_pick_keeps_to_top_k_and_top_p():
    logits = jnp.log(jnp.array([[0.05, 0.4, 0.3, 0.15, 0.1]]))
    keys = jax.random.split(jax.random.key(0), 4000)

    def shares(**fields) -> np.ndarray:
        config = AutoregressiveConfig(1, stop_ids=(), **fields)
        drawn = pick(keys, jnp.repeat(logits, len(keys), axis=0), config)
        return np.bincount(drawn, minlength=5) / len(keys)

    # Four standard errors of a share of one half: 0.032.
    np.testing.assert_allclose(shares(), [0.05, 0.4, 0.3, 0.15, 0.1], atol=0.032)
    np.testing.assert_allclose(shares(top_k=2), [0, 4 / 7, 3 / 7, 0, 0], atol=0.032)
    np.testing.assert_allclose(shares(top_p=0.75), [0, 8 / 17, 6 / 17, 3 / 17, 0], atol=0.032)
    np.testing.assert_allclose(shares(top_k=3, top_p=0.4), [0, 1, 0, 0, 0])
    cold = np.array([0.05, 0.4, 0.3, 0.15, 0.1]) ** 2
    np.testing.assert_allclose(shares(temperature=0.5), cold / cold.sum(), atol=0.032)
    assert shares(temperature=0).tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 0.0}, "top_p must be within"),
        ({"prefill_chunk": 0}, "prefill_chunk must be at least 1"),
    ],
)
def test_config_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        AutoregressiveConfig(**fields)


def test_prefill_in_chunks_equals_one_shot(lively_model, prompts):
    tokens, mask = prompts
    split = SplitModel(lively_model)
    compiled = Compiled(lively_model)
    canvas = np.random.default_rng(1).integers(3, 49, (4, 12)).astype(np.int32)
    whole = prefill(split, tokens, mask, 20)
    expected = compiled.denoise(canvas, whole)
    for chunk in (1, 5, 7, 12, 30):
        cache = prefill(split, tokens, mask, 20, chunk)
        np.testing.assert_array_equal(cache.length, LENGTHS)
        for a, b in zip(jax.tree.leaves(cache), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_allclose(compiled.denoise(canvas, cache), expected, atol=1e-3)
