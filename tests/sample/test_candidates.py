"""The candidates that a trajectory records, and what recording changes: nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.head import Prediction
from sample import SamplerConfig, Snapshot, SplitModel, generate
from sample.candidates import by_chunks, most_probable
from sample.given import CanvasGiven, keep_proposed
from sample.sampler import denoise_canvas
from sample.step import Candidates, Proposal
from tests.sample.test_generate import SCRIPT, Scripted, prompts

KEY = jax.random.key(0)


def test_the_most_probable_come_first_and_of_equal_ones_the_smaller():
    logits = jnp.log(jnp.array([[[0.25, 0.0, 0.5, 0.25]]]))
    found = most_probable(logits, 4)
    assert found.ids.tolist() == [[[2, 0, 3, -1]]]
    np.testing.assert_allclose(found.probabilities, [[[0.5, 0.25, 0.25, 0.0]]], atol=1e-6)


def test_a_kept_token_is_its_only_candidate():
    shape = (1, 2)
    zeros, ints = jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
    tops = Candidates(jnp.full((*shape, 2), 7), jnp.full((*shape, 2), 0.5))
    soft = jnp.zeros((*shape, 3))

    class Embedder:
        def encode(self, tokens):
            return jnp.ones((*tokens.shape, 3))

    class Model:
        embedder = Embedder()

    config = SamplerConfig(trajectory=True, candidates=2)
    proposal = Proposal(
        1, 1.0, 0.8, ints, ints, ints, zeros, soft, ints, KEY, config, Model(), None, None, tops
    )
    keep = jnp.array([[True, False]])
    given = CanvasGiven(jnp.array([[5, -1]]), keep, jnp.zeros(shape, bool))
    found = keep_proposed(proposal, given).candidates
    assert found.ids.tolist() == [[[5, -1], [7, 7]]]
    assert found.probabilities.tolist() == [[[1.0, 0.0], [0.5, 0.5]]]
    assert keep_proposed(proposal._replace(candidates=None), given).candidates is None


class Told(nnx.Module):
    """Takes the hidden states for logits: at every position the same ones, with tokens 3 and 4 on
    top."""

    def __init__(self):
        self.config = ModelConfig.preset("tiny", canvas_size=4, max_length=32, stop_ids=(1,))
        self.dtype = jnp.float32

    def init_cache(self, batch_size, max_length):
        return {"rows": jnp.zeros(batch_size)}

    def encode(self, tokens, cache, mask, *, logits):
        return None, cache

    def to_logits(self, states):
        return states

    def predict(self, canvas, cache, soft, temperature, noise):
        low = jnp.full((*canvas.shape, self.config.vocab_size), -30.0)
        states = low.at[..., 3].set(2.0).at[..., 4].set(1.0)
        told = jnp.full(canvas.shape, 3, jnp.int32)
        return Prediction(told, told, jnp.zeros(canvas.shape), soft, states)


def test_what_is_recorded_and_what_a_watcher_sees():
    seen: list[Snapshot] = []
    config = SamplerConfig(
        max_steps=2,
        early_stop=False,
        trajectory=True,
        candidates=2,
        min_temperature=0.5,
        max_temperature=0.5,
    )
    got = generate(Told(), prompts(0), None, KEY, config, watch=seen.append)
    assert got.candidates.ids.shape == (1, 1, 2, 4, 2)
    assert (got.candidates.ids == [3, 4]).all()
    first = 1 / (1 + np.exp(-2))  # the difference of one is two at temperature 1/2
    np.testing.assert_allclose(got.candidates.probabilities[..., 0], first, atol=1e-6)
    assert (got.canvas[0, 0, 1] == 3).all()  # all draws of the first step were accepted
    for n, snapshot in enumerate(seen):
        np.testing.assert_array_equal(snapshot.canvas, got.canvas[:, 0, n])
        np.testing.assert_array_equal(snapshot.candidates.ids, got.candidates.ids[:, 0, n])
    # The noise is that of a run that records nothing.
    plain = SamplerConfig(max_steps=2, early_stop=False)
    alone = generate(Told(), prompts(0), None, KEY, plain)
    np.testing.assert_array_equal(alone.tokens, got.tokens)
    assert alone.canvas is alone.candidates is None


def test_candidates_need_a_model_that_tells_and_as_many_tokens():
    config = SamplerConfig(trajectory=True, candidates=2)
    with pytest.raises(ValueError, match="tells its hidden states"):
        generate(Scripted(SCRIPT), prompts(0), None, KEY, config)
    with pytest.raises(ValueError, match="candidates=1000000 is more than the vocabulary of"):
        config = dataclasses.replace(config, candidates=1_000_000)
        generate(Told(), prompts(0), None, KEY, config)


def test_by_chunks_equals_a_whole_read(monkeypatch):
    x = jnp.arange(24.0).reshape(2, 6, 2)
    monkeypatch.setattr("sample.candidates.CHUNK_BYTES", 4 * 2 * 10 * 2)  # two positions fit
    got = by_chunks(lambda states: (states * 2, states.sum(-1)), x, 10)
    np.testing.assert_array_equal(got[0], x * 2)
    np.testing.assert_array_equal(got[1], x.sum(-1))


def test_the_program_of_a_run_that_nobody_watches_records_nothing():
    model, keys = SplitModel(Told()), jax.random.split(KEY, 1)
    cache = {"rows": jnp.zeros(1)}

    def program(**settings):
        config = SamplerConfig(max_steps=5, canvas_size=4, stop_ids=(), **settings)
        asked = np.zeros(1, bool), 0, 4, config
        made = jax.make_jaxpr(lambda: denoise_canvas(model, cache, keys, *asked))()
        return str(made)

    plain = program()
    assert "top_k" not in plain and "[1,5,4]" not in plain  # no record of five steps
    assert "[1,5,4]" in program(trajectory=True)
    assert "top_k" in program(trajectory=True, candidates=2)
