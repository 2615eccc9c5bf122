"""Stop tokens, lengths, compilation and errors, on a model that follows a script."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.head import Prediction
from sample import (
    NonFiniteLogits,
    SamplerConfig,
    SplitModel,
    generate,
    prefill,
    sampler,
)

STOP, PAD = 1, 0
KEY = jax.random.key(0)


class Scripted(nnx.Module):
    """Is sure of script[first token of the prompt, number of committed canvases]."""

    def __init__(self, script):
        self.config = ModelConfig.preset("tiny", canvas_size=4, max_length=32, stop_ids=(STOP,))
        self.dtype = jnp.bfloat16
        self.script = nnx.Param(jnp.array(script, jnp.int32))  # [row, canvas, C]

    def init_cache(self, batch_size, max_length):
        return {
            "row": jnp.full(batch_size, -1, jnp.int32),
            "calls": jnp.zeros(batch_size, jnp.int32),
        }

    def encode(self, tokens, cache, mask, *, logits):
        first = jnp.take_along_axis(tokens, jnp.argmax(mask, 1)[:, None], 1)[:, 0]
        row = jnp.where(cache["row"] < 0, first, cache["row"])
        return None, {"row": row, "calls": cache["calls"] + mask.any(1)}

    def predict(self, canvas, cache, soft, temperature, noise):
        told = self.script[...][cache["row"], cache["calls"] - 1]
        return Prediction(told, told, jnp.zeros(told.shape), soft)


SCRIPT = [
    [[5, STOP, 6, 7], [8, 8, 8, 8], [8, 8, 8, 8]],
    [[5, 5, 5, 5], [6, 6, 6, STOP], [8, 8, 8, 8]],
    [[5, 5, 5, 5], [6, 6, 6, 6], [7, 7, STOP, 7]],
    [[STOP, 9, 9, 9], [8, 8, 8, 8], [8, 8, 8, 8]],
]


@pytest.fixture(scope="module")
def model():
    return Scripted(SCRIPT)


def prompts(*rows: int) -> np.ndarray:
    return np.array([[row, 40] for row in rows], np.int32)


def test_a_split_model_stays_as_it_was():
    model, config = Scripted(SCRIPT), SamplerConfig(max_new_tokens=10)
    split, compiled = SplitModel(model), sampler.denoise_canvas._cache_size
    model.script[...] = model.script[...] + 1
    found = generate(split, prompts(2), None, KEY, config)
    assert found.tokens.tolist() == [[5, 5, 5, 5, 6, 6, 6, 6, 7, 7]]
    assert generate(model, prompts(2), None, KEY, config).tokens[0, 0] == 6
    before = compiled()
    generate(SplitModel(Scripted(SCRIPT)), prompts(2), None, KEY, config)  # equal structure
    assert compiled() == before


def test_stop_tokens_end_rows_and_max_new_tokens_ends_all(model):
    got = generate(model, prompts(0, 1, 2, 3), None, KEY, SamplerConfig(max_new_tokens=10))
    assert got.tokens.tolist() == [
        [5, STOP] + [PAD] * 8,
        [5, 5, 5, 5, 6, 6, 6, STOP, PAD, PAD],
        [5, 5, 5, 5, 6, 6, 6, 6, 7, 7],  # its stop token would be the eleventh
        [STOP] + [PAD] * 9,
    ]
    assert got.valid_tokens.tolist() == [[2, 0, 0], [4, 4, 0], [4, 4, 2], [1, 0, 0]]
    assert got.steps.tolist() == [[2, 0, 0], [2, 2, 0], [2, 2, 2], [2, 0, 0]]
    assert got.tokens.dtype == got.steps.dtype == got.valid_tokens.dtype == np.int32
    assert got.best is got.accepted is got.entropy is None


def test_stops_when_all_rows_are_done(model, monkeypatch):
    calls = []
    denoise_canvas = sampler.denoise_canvas

    def counted(*args, **kwargs):
        calls.append(1)
        return denoise_canvas(*args, **kwargs)

    monkeypatch.setattr(sampler, "denoise_canvas", counted)
    got = generate(model, prompts(0, 3), None, KEY, SamplerConfig(max_new_tokens=12))
    assert len(calls) == 1
    assert got.tokens.shape == (2, 12) and got.steps.tolist() == [[2, 0, 0], [2, 0, 0]]


def test_defaults_are_one_canvas_and_the_models_stop_ids(model):
    got = generate(model, prompts(2, 3), None, KEY)
    assert got.tokens.tolist() == [[5, 5, 5, 5], [STOP, PAD, PAD, PAD]]
    got = generate(model, prompts(2, 3), None, KEY, SamplerConfig(stop_ids=()))
    assert got.tokens.tolist() == [[5, 5, 5, 5], [STOP, 9, 9, 9]]
    assert got.valid_tokens.tolist() == [[4], [4]]


def test_without_early_stop_every_canvas_takes_all_steps(model):
    config = SamplerConfig(max_steps=5, early_stop=False, max_new_tokens=8, trajectory=True)
    got = generate(model, prompts(1, 3), None, KEY, config)
    assert got.steps.tolist() == [[5, 5], [5, 0]]
    assert got.best.shape == got.accepted.shape == got.entropy.shape == (2, 2, 5, 4)
    assert (got.best[1, 0] == [STOP, 9, 9, 9]).all() and (got.best[1, 1] == -1).all()
    assert got.accepted[1, 0].all() and not got.accepted[1, 1].any()


def test_canvas_size_can_be_chosen():
    model = Scripted([[[5, 6], [7, STOP]]])
    config = SamplerConfig(canvas_size=2, max_new_tokens=4)
    assert generate(model, prompts(0), None, KEY, config).tokens.tolist() == [[5, 6, 7, STOP]]


def test_equal_calls_compile_once_and_leave_the_model_alone(model):
    first = generate(model, prompts(2, 1), None, KEY, SamplerConfig(max_new_tokens=10))
    programs = prefill._empty_cache, prefill._read, sampler.denoise_canvas
    sizes = [program._cache_size() for program in programs]
    mask = np.array([[True, True], [True, False]])
    again = generate(model, prompts(2, 1), mask, KEY, SamplerConfig(max_new_tokens=10))
    generate(Scripted(SCRIPT), prompts(1, 1), None, KEY, SamplerConfig(max_new_tokens=9))
    assert [program._cache_size() for program in programs] == sizes
    np.testing.assert_array_equal(first.tokens, again.tokens)


@pytest.mark.parametrize(
    ("tokens", "mask", "config", "message"),
    [
        (prompts(0)[0], None, {}, r"tokens must be \[batch, prompt\]"),
        (prompts(), None, {}, r"tokens must be \[batch, prompt\]"),
        (prompts(0, 1), np.ones((2, 3), bool), {}, r"mask \(2, 3\) does not fit tokens \(2, 2\)"),
        (prompts(0, 1), np.array([[1, 0], [0, 0]], bool), {}, "prompt 1 of the batch has no real"),
        (np.zeros((1, 0), np.int32), None, {}, "prompt 0 of the batch has no real token"),
        (prompts(0), None, {"max_new_tokens": 31}, "of 2 and 31 new tokens exceed .* of 32"),
    ],
)
def test_errors(model, tokens, mask, config, message):
    with pytest.raises(ValueError, match=message):
        generate(model, tokens, mask, KEY, SamplerConfig(**config))


def test_as_many_keys_as_rows(model):
    with pytest.raises(ValueError, match=r"key must be one .* or 2 of them, not \(3,\)"):
        generate(model, prompts(0, 1), None, jax.random.split(KEY, 3))


def test_the_last_place_of_the_context_can_be_used(model):
    got = generate(model, prompts(3), None, KEY, SamplerConfig(max_new_tokens=30))
    assert got.tokens.shape == (1, 30)


def test_a_caller_may_end_rows_after_a_canvas(model):
    """`ended` sees what a row has so far, and only of rows that go on."""
    seen = []

    def ended(tokens: np.ndarray) -> bool:
        seen.append(tokens.tolist())
        return tokens[0] == 5 and len(tokens) == 4 and len(seen) == 2

    config = SamplerConfig(max_new_tokens=12)
    out = generate(model, prompts(0, 1, 2), None, KEY, config, ended=ended)
    assert seen == [[5, 5, 5, 5], [5, 5, 5, 5]]  # rows 1 and 2; row 0 has a stop token
    assert out.tokens[1].tolist() == [5, 5, 5, 5, 6, 6, 6, STOP, PAD, PAD, PAD, PAD]
    assert out.tokens[2].tolist() == [5, 5, 5, 5] + [PAD] * 8
    assert (out.steps[2] > 0).tolist() == [True, False, False]


class Broken(Scripted):
    """As Scripted, but the entropy of one token is NaN from some canvas on."""

    def predict(self, canvas, cache, soft, temperature, noise):
        found = super().predict(canvas, cache, soft, temperature, noise)
        nan = (cache["row"] == 2) & (cache["calls"] == 2)
        entropy = found.entropy.at[:, 1].set(jnp.where(nan, jnp.nan, 0.0))
        return found._replace(entropy=entropy)


def test_logits_that_are_no_numbers_are_an_error():
    """The error names the row, the canvas and the step; a stopped row's NaN does not matter."""
    model, config = Broken(SCRIPT), SamplerConfig(max_new_tokens=12)
    with pytest.raises(NonFiniteLogits, match="row 1 of the batch: the logits of canvas 2, step 1"):
        generate(model, prompts(1, 2), None, KEY, config)
    generate(model, prompts(0, 1), None, KEY, config)
