"""What the two losses see, and what they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.diffusion import corrupt, noise_levels
from tests.conftest import Compiled
from train.loss import LossConfig, first_pass, next_token_loss, sft_loss

CONFIG = ModelConfig.preset("tiny", layer_types=("sliding", "full"))
P, C, K = 10, 6, 3
LENGTHS = np.array([10, 4, 7, 5], np.int32)


@pytest.fixture(scope="module")
def split():
    return nnx.split(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)))


def make_batch(canvases=(1, 3, 2, 3)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = np.zeros((4, P + K * C), np.int32)
    for row, (prompt, used) in enumerate(zip(LENGTHS, canvases, strict=True)):
        tokens[row, : prompt + used * C] = rng.integers(3, 64, prompt + used * C)
    return {"tokens": tokens, "prompt_len": LENGTHS, "num_canvases": np.array(canvases, np.int32)}


@pytest.fixture(scope="module")
def loss_fn(split):
    graph, _ = split

    def fn(state, batch, seed, **fields):
        config = LossConfig(canvas_size=C, num_canvases=K, **fields)
        return sft_loss(nnx.merge(graph, state), batch, jax.random.key(seed), config)

    return jax.jit(fn, static_argnames=("noise_draws", "self_conditioning", "encoder_weight"))


def test_padding_and_later_canvases_do_not_matter(split, loss_fn):
    _, state = split
    batch = make_batch()
    loss, _ = loss_fn(state, batch, 0)
    padded = dict(batch, tokens=batch["tokens"].copy())
    ends = LENGTHS + batch["num_canvases"] * C
    for row, end in enumerate(ends):
        padded["tokens"][row, end:] = 7
    np.testing.assert_allclose(loss_fn(state, padded, 0)[0], loss, rtol=1e-6)

    # With one canvas to choose, what follows it may be anything: it is not in the context.
    first = make_batch((1, 1, 1, 1))
    changed = dict(first, tokens=first["tokens"].copy())
    for row, end in enumerate(LENGTHS + C):
        changed["tokens"][row, end:] = 9
    a, b = loss_fn(state, first, 1)[1], loss_fn(state, changed, 1)[1]
    np.testing.assert_allclose(a["denoise_loss"], b["denoise_loss"], rtol=1e-6)
    # And the prompt matters, through the cache.
    changed["tokens"][:, 0] += 1
    c = loss_fn(state, changed, 1)[1]
    assert abs(c["denoise_loss"] - a["denoise_loss"]) > 1e-5


def test_the_denoising_loss_is_that_of_its_parts(split, loss_fn):
    """Recomputed from encode and denoise alone, for rows with a single canvas to choose."""
    graph, state = split
    model = Compiled(nnx.merge(graph, state))
    batch = make_batch((1, 1, 1, 1))
    _, metrics = loss_fn(state, batch, 3, noise_draws=2, self_conditioning=0.0)
    _, level_key, noise_key = jax.random.split(jax.random.key(3), 3)
    levels = noise_levels(level_key, 8)
    clean = np.stack([batch["tokens"][r, n : n + C] for r, n in enumerate(LENGTHS)]).repeat(2, 0)
    noisy = corrupt(noise_key, jnp.asarray(clean), levels, 64)
    prompts = batch["tokens"][:, :P].repeat(2, 0)
    mask = np.arange(P) < LENGTHS.repeat(2)[:, None]
    _, cache = model.encode(prompts, model.init_cache(8, P), mask, "none")
    log_p = np.asarray(jax.nn.log_softmax(model.denoise(noisy, cache)))
    losses = -np.take_along_axis(log_p, clean[..., None], axis=-1)
    np.testing.assert_allclose(metrics["denoise_loss"], losses.mean(), rtol=1e-5)


def test_next_token_loss_counts_real_targets_only():
    logits = jax.random.normal(jax.random.key(0), (2, 5, 8))
    tokens = np.array([[1, 2, 3, 4, 5], [6, 7, 1, 0, 0]])
    log_p = np.asarray(jax.nn.log_softmax(logits))
    expected = [log_p[0, i, tokens[0, i + 1]] for i in range(4)]
    expected += [log_p[1, i, tokens[1, i + 1]] for i in range(2)]
    loss = next_token_loss(logits, tokens, jnp.array([5, 3]))
    np.testing.assert_allclose(loss, -np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize(
    "draws, rows, expected", [(1, 4, [1, 1, 0, 0]), (2, 2, [1, 0, 1, 0]), (4, 1, [1, 1, 0, 0])]
)
def test_half_of_the_canvases_get_a_first_pass_and_the_others_zeros(split, draws, rows, expected):
    graph, state = split
    model = nnx.merge(graph, state)
    config = LossConfig(canvas_size=C, noise_draws=draws)
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, 64, (rows, C)).astype(np.int32)
    canvas = rng.integers(3, 64, (4, C)).astype(np.int32)

    @jax.jit
    def run(state):
        model = nnx.merge(graph, state)
        _, context = model.encode(prompts, logits="none")
        _, repeated = model.encode(np.repeat(prompts, draws, axis=0), logits="none")
        soft = first_pass(model, canvas, context, config)
        return soft, model.soft_embed(model.denoise(canvas, repeated)), context

    soft, every, context = run(state)
    conditioned = np.abs(soft).max(axis=(1, 2)) > 0
    assert conditioned.tolist() == [bool(x) for x in expected]
    np.testing.assert_allclose(soft[conditioned], every[conditioned], atol=1e-5)
    none = LossConfig(canvas_size=C, noise_draws=draws, self_conditioning=0.0)
    assert first_pass(model, canvas, context, none) is None


def test_noise_draws_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="of 3 noise draws"):
        LossConfig(canvas_size=C, noise_draws=3)


def test_no_gradient_flows_into_the_first_pass(split):
    graph, state = split
    canvas = np.random.default_rng(0).integers(3, 64, (2, C)).astype(np.int32)

    def total(state):
        model = nnx.merge(graph, state)
        _, cache = model.encode(canvas)
        return jnp.sum(first_pass(model, canvas, cache, LossConfig(canvas_size=C)) ** 2)

    grads = jax.jit(jax.grad(total))(state)
    assert all(not np.any(g) for g in jax.tree.leaves(grads))
