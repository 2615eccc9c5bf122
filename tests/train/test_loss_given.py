"""The losses with kept tokens, and with tokens that canvases start from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.text.packing import pack
from data.text.parts import NOTHING, GivenTokens
from diffusiongemma import DiffusionGemma
from diffusiongemma.diffusion import corrupt
from sample import Given, SamplerConfig
from sample.given import CanvasGiven, keep_proposed, start_from
from sample.step import Start, propose
from tests.train.loss_parts import CONFIG, C, K, P, Scripted
from train.loss import LossConfig, corrupt_given, first_passes, has_first_pass, sft_loss


@pytest.fixture(scope="module")
def split():
    return nnx.split(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)))


def random_given(tokens, seed=0):
    """What is given of tokens [...]: a third is kept, and a third starts from other tokens."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, tokens.shape)
    other = rng.integers(3, 64, tokens.shape)
    shown = np.select([kind == 0, kind == 1], [tokens, other], NOTHING).astype(np.int32)
    return Given(shown, kind == 0)


def test_kept_tokens_are_no_noise_and_starts_are_noised_like_clean_tokens():
    clean = np.random.default_rng(1).integers(3, 64, (8, 500)).astype(np.int32)
    given = random_given(clean)
    given.tokens[:4][~given.keep[:4]] = NOTHING  # these rows start from nothing
    config = LossConfig(500, noise_draws=4, self_conditioning=0.75)
    key, levels = jax.random.key(0), jnp.full(8, 0.5)
    noisy = np.array(corrupt_given(key, clean, levels, 64, given, config))
    np.testing.assert_array_equal(noisy[given.keep], clean[given.keep])
    starts = (given.tokens != NOTHING) & ~given.keep
    shown = np.where(starts, given.tokens, clean)
    same = np.array(corrupt(key, shown, levels, 64))
    np.testing.assert_array_equal(noisy[:7][~given.keep[:7]], same[:7][~given.keep[:7]])
    # The last draw of a row has no first pass. If its row has starts, it is the start as it is.
    assert np.array(has_first_pass(8, config)).tolist() == ([True] * 3 + [False]) * 2
    np.testing.assert_array_equal(noisy[7], shown[7])
    one = LossConfig(500, self_conditioning=0.5)
    assert np.array(has_first_pass(4, one)).tolist() == [True, True, False, False]


def test_kept_tokens_do_not_count():
    """A row of two canvases; the first has two kept tokens, and the second is kept whole."""
    keep = [True, False, False, True, False, False] + [True] * 2
    answer = list(range(20, 28))
    shown = [token if kept else NOTHING for token, kept in zip(answer, keep, strict=True)]
    row = pack([3, 4, 5, 6], answer, P, C, K, 1, 0, GivenTokens(shown, keep))
    batch = {name: jnp.array(value)[None] for name, value in row.items()}
    config = LossConfig(C, K, noise_draws=2, self_conditioning=0.0)

    @jax.jit
    @jax.vmap
    def figures(key):
        return sft_loss(model, batch, key, config)[1]

    guessed = row["tokens"].copy()
    guessed[[4, 5]] = 50  # a kept token and a free one are wrong
    model = ScriptedWithTable(jnp.array(guessed))
    found = figures(jax.random.split(jax.random.key(0), 20))
    second = np.array(found["answer_tokens"]) == 0
    assert 0 < second.sum() < 20
    expected = {"answer_tokens": 4 / 6, "answer_right": 3 / 6, "denoise_accuracy": 3 / 4}
    right = np.log(np.exp(4) + CONFIG.vocab_size - 1) - 4  # the logit of a canvas' guess is 4
    expected |= {"fill_tokens": 0, "fill_right": 0, "denoise_loss": right + 4 / 4}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name][~second], value, rtol=1e-5)
        np.testing.assert_array_equal(found[name][second], 0)


class ScriptedWithTable(Scripted):
    """A Scripted that embeds tokens, in two dims."""

    dtype = jnp.float32

    class embedder:
        @staticmethod
        def encode(tokens):
            return jnp.stack([tokens, -tokens], axis=-1)

    def __init__(self, clean):
        super().__init__(clean)
        self.config = dataclasses.replace(CONFIG, width=2)


def test_training_sees_kept_tokens_as_the_sampler_does(split):
    """Two first passes are the sampler's first two steps on a canvas that stays as it is."""
    graph, state = split
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, 64, (1, C)).astype(np.int32)
    clean = rng.integers(3, 64, (4, C)).astype(np.int32)
    given = random_given(clean)
    tau, config = 0.7, dict(canvas_size=C, noise_draws=4, pass_temperature=0.7)
    keys = jax.random.split(jax.random.key(0), 4)
    sampler = SamplerConfig(canvas_size=C, min_temperature=tau, max_temperature=tau)

    @jax.jit
    def run(state):
        model = nnx.merge(graph, state)
        _, context = model.encode(prompts, logits="none")
        here = CanvasGiven(*map(jnp.array, given), given.keep)
        zeros = jnp.zeros((4, C, CONFIG.width))
        first = start_from(Start(jnp.array(clean), zeros, keys, sampler, model), here)
        sampled = [first.soft]
        for n in (1, 2):
            proposal = propose(model, context, first.canvas, sampled[-1], n, keys, sampler)
            sampled.append(keep_proposed(proposal, here).soft)
        trained = [
            first_passes(model, first.canvas, context, LossConfig(**config, **passes), given)
            for passes in (
                {"self_conditioning": 0.0},
                {"self_conditioning": 1.0},
                {"self_conditioning": 1.0, "passes": 2},
            )
        ]
        return sampled, trained

    sampled, (none, one, two) = run(state)
    np.testing.assert_allclose(none, sampled[0], atol=1e-6)
    np.testing.assert_allclose(one, sampled[1], atol=1e-5)
    taken = np.arange(4) < 2  # the canvases with two passes
    np.testing.assert_allclose(two[taken], sampled[2][taken], atol=1e-5)
    np.testing.assert_allclose(two[~taken], sampled[1][~taken], atol=1e-5)
    assert np.abs(sampled[2] - sampled[1])[~given.keep].max() > 1e-3
    assert np.abs(sampled[0][given.keep]).max() > 0
