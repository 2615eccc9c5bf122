"""Several starts of a canvas: each is a run of its own, and the surest is taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.attention import KVCache
from diffusiongemma.head import Prediction
from sample import (
    Generation,
    NonFiniteLogits,
    SamplerConfig,
    SplitModel,
    entropy_bound_rule,
    generate,
)
from sample.batch import row_keys
from sample.prefill import KeptPrompt, commit, prefill
from sample.sampler import denoise_canvas
from sample.starts import start_keys, surest, take

KEY = jax.random.key(1)
S = 3


@pytest.fixture(scope="module")
def prompts() -> np.ndarray:
    return np.random.default_rng(2).integers(3, 49, (2, 6)).astype(np.int32)


@pytest.fixture(scope="module")
def three(lively_config) -> SamplerConfig:
    return dataclasses.replace(lively_config, starts=S, stop_ids=())


@pytest.fixture(scope="module")
def found(lively_model, prompts, three) -> Generation:
    return generate(lively_model, prompts, None, KEY, three)


def test_three_starts_are_three_runs_and_a_choice_by_hand(lively_model, prompts, three, found):
    """Canvas by canvas, with one start and the keys of each, behind what was chosen before."""
    model, mask = SplitModel(lively_model), np.ones(prompts.shape, bool)
    size, new = lively_model.config.canvas_size, three.max_new_tokens
    keys = start_keys(row_keys(KEY, prompts, mask), S).reshape(2, S)
    one = dataclasses.replace(
        three, starts=1, canvas_size=size, max_new_tokens=None, prefill_chunk=None
    )
    cache = prefill(model, prompts, mask, 6 + 2 * size)
    done, rows, picked = np.zeros(2, bool), np.arange(2), []
    for k in range(3):
        runs = [
            jax.device_get(denoise_canvas(model, cache, keys[:, s], done, k, new - k * size, one))
            for s in range(S)
        ]
        tokens, steps, valid = (
            np.stack([getattr(run.out, name) for run in runs], axis=1)
            for name in ("tokens", "steps", "valid_tokens")
        )
        np.testing.assert_array_equal(found.starts.tokens[:, k], tokens)
        np.testing.assert_array_equal(found.starts.steps[:, k], steps)
        np.testing.assert_array_equal(found.starts.valid_tokens[:, k], valid)
        last = np.stack([run.out.entropy[rows, run.out.steps - 1] for run in runs], axis=1)
        means = last.mean(axis=2)
        np.testing.assert_allclose(found.starts.entropy[:, k], means, atol=1e-4)
        best = means.argmin(axis=1)
        picked += best.tolist()
        np.testing.assert_array_equal(found.steps[:, k], steps.sum(axis=1))
        for b, s in enumerate(best):
            taken = steps[b, s]
            assert found.recorded_steps[b, k] == taken
            assert found.valid_tokens[b, k] == valid[b, s]
            for name in ("best", "accepted", "entropy"):
                mine, its = getattr(found, name)[b, k], getattr(runs[s].out, name)[b]
                np.testing.assert_allclose(mine, its, atol=1e-4)
        chosen = tokens[rows, best]
        part = found.tokens[:, k * size : (k + 1) * size]
        np.testing.assert_array_equal(part, chosen[:, : part.shape[1]])
        if k < 2:
            cache = commit(model, cache, chosen, done)
    # It says something only if the first start is not always taken, and runs differ in length.
    assert len(set(picked)) > 1 and len(set(found.starts.steps.ravel())) > 2
    assert found.rounds == found.starts.steps.max(axis=(0, 2)).sum()


def test_other_rows_do_not_matter(lively_model, prompts, three, found):
    others = np.stack([prompts[1], prompts[0][::-1]])
    swapped = generate(lively_model, others, None, KEY, three)
    for name in ("tokens", "steps", "valid_tokens", "best"):
        np.testing.assert_array_equal(getattr(swapped, name)[0], getattr(found, name)[1])
    np.testing.assert_array_equal(swapped.starts.tokens[0], found.starts.tokens[1])
    assert (swapped.tokens[1] != found.tokens[0]).any()


class Echo(nnx.Module):
    """Predicts the canvas that it saw; the entropy of a token is its number. 63 is not a number."""

    def __init__(self):
        self.config = ModelConfig.preset("tiny", canvas_size=2, max_length=32, stop_ids=(1,))
        self.dtype = jnp.float32

    def init_cache(self, batch_size, max_length):
        return KVCache((), jnp.zeros(batch_size, jnp.int32))

    def encode(self, tokens, cache, mask, *, logits):
        return None, KVCache((), cache.length + mask.sum(axis=1))

    def predict(self, canvas, cache, soft, temperature, noise):
        assert canvas.shape[0] == S * cache.length.shape[0]  # the starts share a row's cache
        entropy = jnp.where(canvas == 63, jnp.nan, canvas.astype(jnp.float32))
        return Prediction(canvas, canvas, entropy, soft)


# Two rows of two canvases. Row b has canvases[b, k, s] at start s.
CANVASES = np.array(
    [
        [[[9, 7], [5, 3], [4, 4]], [[2, 9], [2, 9], [9, 2]]],
        [[[8, 8], [9, 9], [1, 6]], [[3, 3], [3, 3], [3, 3]]],
    ],
    np.int32,
)


def told(first, data):
    """Starts from the canvas that the start is to have; it is told by the row's data."""
    canvases, rows = data[0], jnp.arange(len(data[0]))
    return first._replace(canvas=canvases[rows, rows % S])


def as_it_is(proposal, data):
    """Changes nothing, and counts some positions."""
    step = entropy_bound_rule(proposal)
    return step._replace(canvas=proposal.canvas, counted=data[1])


def echo(canvases=CANVASES, counted=(True, True), **options) -> Generation:
    config = SamplerConfig(max_steps=3, max_new_tokens=4, trajectory=True, starts=S)
    tokens, data = np.full((2, 3), 5, np.int32), (canvases, np.tile(counted, (2, 2, 1)))
    return generate(
        Echo(), tokens, None, KEY, config, rule=as_it_is, start=told, data=data, **options
    )


def test_the_surest_is_cut_and_committed_and_all_steps_count():
    out = echo()
    # The first of equal ones; the second row ends in its first canvas, where its choice ends.
    assert out.tokens.tolist() == [[5, 3, 2, 9], [1, 0, 0, 0]]
    assert out.steps.tolist() == [[9, 9], [9, 0]]
    assert out.valid_tokens.tolist() == [[2, 2], [1, 0]]
    assert out.recorded_steps.tolist() == [[3, 3], [3, 0]] and out.rounds == 6
    assert out.starts.entropy.tolist() == [[[8, 4, 4], [5.5] * 3], [[8, 9, 3.5], [-1] * 3]]
    assert out.starts.steps.tolist() == [[[3] * 3] * 2, [[3] * 3, [0] * 3]]
    assert out.starts.tokens[1].tolist() == [[[8, 8], [9, 9], [1, 0]], [[0, 0]] * 3]
    assert out.starts.valid_tokens.tolist() == [[[2] * 3] * 2, [[2, 2, 1], [0] * 3]]
    assert out.best[0, 0].tolist() == [[5, 3]] * 3 and out.entropy[1, 0, 2].tolist() == [1, 6]


def test_only_counted_positions_decide():
    out = echo(counted=(False, True))
    assert out.tokens.tolist() == [[5, 3, 9, 2], [1, 0, 0, 0]]
    assert out.starts.entropy[0].tolist() == [[7, 3, 4], [9, 9, 2]]


def test_a_watcher_sees_the_start_that_leads():
    seen = []

    def watch(snapshot) -> bool:
        seen.append(jax.tree.map(np.array, snapshot))
        return len(seen) == 2

    out = echo(watch=watch)
    assert out.steps.tolist() == [[6, 9], [6, 0]]
    assert [x.best.tolist() for x in seen[:2]] == [[[5, 3], [1, 6]]] * 2
    assert [x.best[0].tolist() for x in seen[2:]] == [[2, 9]] * 3
    assert [x.live.tolist() for x in seen] == [[True, True]] * 2 + [[True, False]] * 3


def test_a_caller_may_end_rows():
    asked = []
    out = echo(ended=lambda tokens: asked.append(tokens.tolist()) or True)
    assert asked == [[5, 3]] and out.steps.tolist() == [[9, 0], [9, 0]]


def test_a_kept_conversation_has_starts_too():
    """Its one row is read once, for all starts."""
    config = SamplerConfig(max_steps=2, max_new_tokens=4, starts=S)
    prompt = np.array([[2, 9, 20, 9, 30]], np.int32)
    plain = generate(Echo(), prompt, None, KEY, config)
    kept = KeptPrompt(9)
    for read in (5, 2):
        out = generate(Echo(), prompt, None, KEY, config, kept=kept)
        np.testing.assert_array_equal(out.starts.tokens, plain.starts.tokens)
        assert kept.num_read == read
    assert len(np.unique(plain.starts.tokens)) > 4


def test_a_nan_in_any_start_is_an_error():
    broken = CANVASES.copy()
    broken[1, 0, 1, 0] = 63  # not the start that is taken
    with pytest.raises(NonFiniteLogits, match="row 1 of the batch: the logits of canvas 1, step 1"):
        echo(broken)


def test_the_surest_is_the_first_of_equal_ones():
    entropy = jnp.array([3.0, 1.0, 1.0, 0.5, 2.0, 0.5])
    chosen = surest(entropy, S)
    assert chosen.tolist() == [1, 0] and take(jnp.arange(6), chosen).tolist() == [1, 3]


def test_keys_of_starts():
    keys = jax.random.split(KEY, 2)
    every = start_keys(keys, S)
    assert every.shape == (6,) and (every[::S] == keys).all()
    assert (start_keys(keys[1:], 2) == every[3:5]).all()  # neither other rows nor S matter
    canvases = [jax.random.fold_in(keys[0], k) for k in range(8)]
    all_keys = [*every, *canvases]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in all_keys}) == 14
    assert start_keys(keys, 1) is keys
