"""Rules that change a denoising step. What they did is checked from what the loop recorded.

Switches that plant an error are part of a rule's data, so that no second program is compiled.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.head import Prediction
from sample import Generation, SamplerConfig, Step, entropy_bound_rule, generate
from sample.sampler import denoise_canvas
from sample.step import accept

KEY = jax.random.key(3)
ROWS, CANVASES, WIDTH = 4, 3, 9


@pytest.fixture(scope="module")
def run(lively_model, lively_config):
    """generate() for a ragged batch, whose rows can be put in another order."""
    tokens = np.random.default_rng(0).integers(3, 49, (ROWS, WIDTH)).astype(np.int32)
    mask = np.arange(WIDTH) < np.array([9, 2, 5, 1])[:, None]
    config = dataclasses.replace(lively_config, stop_ids=())  # all rows go through all canvases

    def run(order=slice(None), fields=None, **options) -> Generation:
        settings = dataclasses.replace(config, **(fields or {}))
        return generate(lively_model, tokens[order], mask[order], KEY, settings, **options)

    return run


@pytest.fixture(scope="module")
def published(run) -> Generation:
    """What comes without any rule."""
    out = run()
    assert (out.steps > 1).all() and len(set(out.steps.ravel())) > 2
    return out


def assert_same(found: Generation, expected: Generation) -> None:
    for name, array in expected._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)


def test_the_published_rule_is_the_default_to_the_bit(run, published):
    """Written out once more; where `redraws` is set, it accepts nothing."""

    def spelled_out(proposal, redraws):
        kept = accept(proposal.entropy, proposal.config.entropy_bound) & ~redraws[:, None]
        canvas = jnp.where(kept, proposal.drawn, proposal.noise)
        return Step(proposal.best, proposal.entropy, kept, canvas, proposal.soft)

    redraws = np.zeros((ROWS, CANVASES), bool)
    assert_same(run(rule=spelled_out, data=redraws), published)
    assert_same(run(rule=entropy_bound_rule, data=None), published)
    redraws[1, 0] = True
    with pytest.raises(AssertionError):
        assert_same(run(rule=spelled_out, data=redraws), published)


def test_only_canvases_that_have_not_settled_start_again(run, lively_config):
    """Without early stopping, so that a settled canvas is there when the others start again."""
    out = run(fields={"early_stop": False, "restart_every": 5})
    threshold, cases = lively_config.stop_threshold, set()
    for n in (5, 10):
        same = (out.best[:, :, n - 1] == out.best[:, :, n - 2]).all(axis=-1)
        calm = same & (out.entropy[:, :, n - 1].mean(axis=-1) <= threshold)
        np.testing.assert_array_equal(out.accepted[:, :, n - 1].any(axis=-1), calm)
        cases |= set(calm.ravel().tolist())
    assert cases == {True, False}


class Echo(nnx.Module):
    """Predicts the canvas that it saw; the entropy is the mean of the `soft` that it got."""

    def __init__(self):
        self.config = ModelConfig.preset("tiny", canvas_size=2, max_length=32, stop_ids=())
        self.dtype = jnp.float32

    def init_cache(self, batch_size, max_length):
        return jnp.zeros(batch_size)

    def encode(self, tokens, cache, mask, *, logits):
        return None, cache

    def predict(self, canvas, cache, soft, temperature, noise):
        return Prediction(canvas, canvas, soft.mean(axis=-1), soft)


class Sums(NamedTuple):
    """Where canvas and soft start, and how much every step adds to both: [B, K, C] and [B, K]."""

    first: np.ndarray
    more: np.ndarray


def test_the_loop_goes_on_with_what_start_and_rule_give_for_each_canvas():
    def start(first, sums):
        soft = jnp.broadcast_to(sums.first[..., None], first.soft.shape)
        return first._replace(canvas=sums.first, soft=soft.astype(first.soft.dtype))

    def rule(proposal, sums):
        canvas = proposal.canvas + sums.more[:, None]
        soft = proposal.soft + sums.more[:, None, None]
        return Step(proposal.best, proposal.entropy, canvas > 0, canvas, soft)

    rng = np.random.default_rng(0)
    sums = Sums(*(rng.integers(0, 9, shape).astype(np.int32) for shape in ((3, 4, 2), (3, 4))))
    config = SamplerConfig(max_steps=5, early_stop=False, max_new_tokens=8, trajectory=True)
    tokens = np.ones((3, 2), np.int32)

    def check(sums: Sums) -> None:
        out = generate(Echo(), tokens, None, KEY, config, rule=rule, start=start, data=sums)
        np.testing.assert_array_equal(out.best, expected)
        np.testing.assert_allclose(out.entropy, expected, rtol=1e-6)
        np.testing.assert_array_equal(out.tokens.reshape(3, 4, 2), expected[:, :, -1])

    expected = np.stack([sums.first + n * sums.more[..., None] for n in range(5)], axis=2)
    check(sums)
    for wrong in (sums.first[:, ::-1], sums.first[::-1]):
        with pytest.raises(AssertionError):
            check(sums._replace(first=wrong))


def surest(proposal, count):
    """Accepts the `count` [B] positions of least entropy."""
    order = jnp.argsort(jnp.argsort(proposal.entropy, axis=1), axis=1)
    accepted = order < count[:, None]
    canvas = jnp.where(accepted, proposal.drawn, proposal.noise)
    return Step(proposal.best, proposal.entropy, accepted, canvas, proposal.soft)


def test_a_number_of_positions_for_each_canvas_of_each_row(run):
    count = np.random.default_rng(1).permutation(ROWS * CANVASES).reshape(ROWS, CANVASES) % 12 + 1

    def check(out: Generation, count: np.ndarray) -> None:
        for row, k in np.ndindex(count.shape):
            for n in range(out.steps[row, k] - 1):
                accepted, entropy = out.accepted[row, k, n], out.entropy[row, k, n]
                assert accepted.sum() == count[row, k]
                assert entropy[accepted].max() <= entropy[~accepted].min(initial=np.inf)

    out = run(rule=surest, data=count)
    check(out, count)
    order = np.array([2, 0, 3, 1])
    turned = run(order, rule=surest, data=count[order])
    assert_same(turned, jax.tree.map(lambda array: array[order], out))
    for wrong in (count[:, ::-1], count[order]):
        with pytest.raises(AssertionError):
            check(out, wrong)


class Allowed(NamedTuple):
    """tokens: [B, K, V] bool, what may be drawn. seen: [B, K] bool, to show canvases seen."""

    tokens: np.ndarray
    seen: np.ndarray


def random_allowed(keys, allowed, size):
    logits = jnp.where(allowed, 0.0, -jnp.inf)
    return jax.vmap(lambda key, row: jax.random.categorical(key, row, shape=(size,)))(keys, logits)


def allowed_first(first, allowed):
    canvas = random_allowed(first.keys, allowed.tokens, first.canvas.shape[1])
    return first._replace(canvas=canvas.astype(jnp.int32))


def only_allowed(proposal, allowed):
    logits = jnp.where(allowed.tokens[:, None], proposal.logits(), -jnp.inf)
    tempered = jax.nn.log_softmax(logits / proposal.temperature)
    p = jnp.exp(tempered)
    draws, noise = jax.vmap(jax.random.split, out_axes=1)(proposal.keys)
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    drawn = jax.vmap(jax.random.categorical)(draws, tempered)
    proposal = proposal._replace(
        best=jnp.where(allowed.seen[:, None], proposal.canvas, best),
        drawn=drawn.astype(jnp.int32),
        noise=random_allowed(noise, allowed.tokens, best.shape[1]).astype(jnp.int32),
        entropy=-jnp.sum(jnp.where(p > 0, p * tempered, 0), axis=-1),
        soft=proposal.model.soft_embed(tempered),
    )
    return entropy_bound_rule(proposal)


def test_only_allowed_tokens_are_drawn(run, published, lively_model):
    shape = ROWS, CANVASES, lively_model.config.vocab_size
    tokens = np.random.default_rng(2).random(shape) < 0.2
    seen = np.zeros(shape[:2], bool)

    def check(out: Generation) -> None:
        for row, k in np.ndindex(out.steps.shape):
            used = out.best[row, k, : out.steps[row, k]]
            assert tokens[row, k, used].all() and len(np.unique(used)) > 1

    def limited(tokens: np.ndarray, seen: np.ndarray) -> Generation:
        return run(rule=only_allowed, start=allowed_first, data=Allowed(tokens, seen))

    check(limited(tokens, seen))
    check(limited(tokens, ~seen))
    everything = np.ones_like(tokens)
    for shown in (seen, ~seen):
        with pytest.raises(AssertionError):
            check(limited(everything, shown))
    # The logits are the model's own: with all tokens allowed and the usual start, the first step
    # finds what it finds without a rule.
    free = run(rule=only_allowed, data=Allowed(everything, seen))
    np.testing.assert_array_equal(free.best[:, 0, 0], published.best[:, 0, 0])
    np.testing.assert_allclose(free.entropy[:, 0, 0], published.entropy[:, 0, 0], atol=1e-4)


def test_data_must_fit_rows_and_canvases(run):
    for shape in ((ROWS,), (ROWS, CANVASES - 1, 5), (1, CANVASES)):
        with pytest.raises(ValueError, match=r"of 4 rows and one of 3 canvases in every array"):
            run(rule=surest, data={"fits": np.zeros((ROWS, CANVASES)), "not": np.zeros(shape)})


def test_the_same_function_is_compiled_once(run, published):
    before = denoise_canvas._cache_size()
    run(rule=entropy_bound_rule)
    assert denoise_canvas._cache_size() == before
