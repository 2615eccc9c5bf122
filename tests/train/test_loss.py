"""Which tokens the two losses depend on, which canvases are chosen, and the first passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.text.packing import pack
from diffusiongemma import DiffusionGemma
from diffusiongemma.diffusion import corrupt, noise_levels
from tests.conftest import Compiled
from tests.train.loss_parts import CONFIG, LENGTHS, C, K, P, Scripted, make_batch
from train.loss import (
    SHARES,
    LossConfig,
    accuracies,
    first_passes,
    mean_loss,
    sft_loss,
)


@pytest.fixture(scope="module")
def split():
    return nnx.split(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def loss_fn(split):
    graph, _ = split

    def fn(state, batch, seed, **fields):
        config = LossConfig(canvas_size=C, num_canvases=K, **fields)
        return sft_loss(nnx.merge(graph, state), batch, jax.random.key(seed), config)

    settings = "noise_draws", "noise_power", "self_conditioning", "encoder_weight"
    return jax.jit(fn, static_argnames=settings)


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
    """The loss is computed again from encode and denoise, for rows with only one canvas."""
    graph, state = split
    model = Compiled(nnx.merge(graph, state))
    batch = make_batch((1, 1, 1, 1))
    _, figures = loss_fn(state, batch, 3, noise_draws=2, self_conditioning=0.0, noise_power=3.0)
    _, level_key, noise_key = jax.random.split(jax.random.key(3), 3)
    levels = noise_levels(level_key, 8, 3.0)
    clean = np.stack([batch["tokens"][r, n : n + C] for r, n in enumerate(LENGTHS)]).repeat(2, 0)
    noisy = corrupt(noise_key, jnp.asarray(clean), levels, 64)
    prompts = batch["tokens"][:, :P].repeat(2, 0)
    mask = np.arange(P) < LENGTHS.repeat(2)[:, None]
    _, cache = model.encode(prompts, model.init_cache(8, P), mask, "none")
    log_p = np.asarray(jax.nn.log_softmax(model.denoise(noisy, cache)))
    losses = -np.take_along_axis(log_p, clean[..., None], axis=-1)
    np.testing.assert_allclose(figures["denoise_loss"], losses.mean(), rtol=1e-5)


def test_the_mean_is_over_what_counts():
    logits = jax.random.normal(jax.random.key(0), (2, 4, 8))
    targets = np.array([[2, 3, 4, 5], [7, 1, 0, 0]])
    log_p = np.asarray(jax.nn.log_softmax(logits))
    expected = [log_p[0, i, targets[0, i]] for i in range(4)]
    expected += [log_p[1, i, targets[1, i]] for i in range(2)]
    counts = np.arange(4) < np.array([[4], [2]])
    np.testing.assert_allclose(mean_loss(logits, targets, counts), -np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize("used", range(1, K + 1))
def test_every_valid_canvas_is_chosen_as_often_and_no_other(used):
    prompt, draws = 4, 600
    row = pack(range(3, 3 + prompt), [9] * (used * C), P, C, K, eos_id=1, pad_id=0)
    model = Scripted(jnp.array(row["tokens"]))
    batch = {name: jnp.array(value)[None] for name, value in row.items()}
    config = LossConfig(C, K, self_conditioning=0.0)

    def denoise_loss(key):
        return sft_loss(model, batch, key, config)[1]["denoise_loss"]

    losses = jax.jit(jax.vmap(denoise_loss))(jax.random.split(jax.random.key(0), draws))
    lengths = prompt + np.arange(K) * C
    of_canvas = np.log(np.exp(lengths) + CONFIG.vocab_size - 1) - lengths
    chosen = np.abs(losses[:, None] - of_canvas).argmin(axis=1)
    np.testing.assert_allclose(losses, of_canvas[chosen], rtol=1e-3, atol=1e-6)
    counts = np.bincount(chosen, minlength=K)
    assert counts[used:].sum() == 0
    assert np.abs(counts[:used] - draws / used).max() < 4 * np.sqrt(draws / used)


def test_the_encoders_loss_on_the_answer_alone():
    prompt, answer = 5, 8  # in two canvases of 6, the second filled with four eos
    row = pack(range(3, 3 + prompt), range(20, 20 + answer), P, C, K, eos_id=1, pad_id=0)
    batch = {name: jnp.array(value)[None] for name, value in row.items()}

    def encoder_losses(places, targets):
        config = LossConfig(C, K, self_conditioning=0.0, encoder_targets=targets)

        def encoder_loss(place):
            model = Scripted(jnp.array(row["tokens"]), jnp.arange(P + K * C) == place)
            return sft_loss(model, batch, jax.random.key(0), config)[1]["encoder_loss"]

        return jax.jit(jax.vmap(encoder_loss))(places)

    # A token that the model knows nothing about has this loss. It counts in the answer from its
    # first token, which the prompt's last token predicts, to the last token of the fill.
    one, end = np.log(CONFIG.vocab_size), prompt + 2 * C
    places = np.arange(1, end + 2)
    counted = {"all": places < end, "answer": (prompt <= places) & (places < end)}
    for targets, counts in counted.items():
        expected = one * counts / counts.sum()
        np.testing.assert_allclose(encoder_losses(places, targets), expected, rtol=1e-5, atol=1e-6)
    assert counted["answer"].sum() == 2 * C


def test_without_weight_the_encoders_loss_is_not_computed(split, loss_fn):
    _, state = split
    batch = make_batch()
    _, parts = loss_fn(state, batch, 0)
    loss, figures = loss_fn(state, batch, 0, encoder_weight=0.0)
    assert set(figures) == {"denoise_loss", "denoise_accuracy", *SHARES}
    np.testing.assert_allclose(loss, parts["denoise_loss"], rtol=1e-6)


def test_the_fill_and_the_turns_end_are_denoised_too():
    row = pack([3, 4, 5], [20, 21, 40], P, C, K, eos_id=1, pad_id=0)
    batch = {name: jnp.array(value)[None] for name, value in row.items()}
    config = LossConfig(C, K, self_conditioning=0.0)

    @jax.jit
    def denoise_loss(tokens):
        return sft_loss(Scripted(tokens), batch, jax.random.key(0), config)[1]["denoise_loss"]

    right = denoise_loss(row["tokens"])
    for place in range(3, 9):
        wrong = row["tokens"].copy()
        wrong[place] = 50
        # Its logits are 3 at one token and 0 elsewhere.
        np.testing.assert_allclose(denoise_loss(wrong) - right, 3 / C, rtol=1e-5)


def test_the_accuracy_of_answers_does_not_count_the_fill():
    """A model that knows that the fill follows, and nothing of the answer."""
    prompt, answer = 4, 8  # in two canvases of 6, the second with four eos
    row = pack(range(3, 3 + prompt), [20] * answer, P, C, K, eos_id=1, pad_id=0)
    batch = {name: jnp.array(value)[None] for name, value in row.items()}
    guessed = np.where(row["tokens"] == 20, 30, row["tokens"])
    guessed[prompt + C] = 20  # one token of the second canvas is right
    config = LossConfig(C, K, noise_draws=2, self_conditioning=0.0)
    model = Scripted(jnp.array(guessed))

    def figures(key):
        return sft_loss(model, batch, key, config)[1]

    found = jax.jit(jax.vmap(figures))(jax.random.split(jax.random.key(0), 20))
    second = np.array(found["fill_tokens"]) > 0
    assert 0 < second.sum() < 20  # both canvases were chosen
    expected = {"answer_tokens": 2 / 6, "answer_right": 1 / 6, "fill_tokens": 4 / 6}
    expected |= {"fill_right": 4 / 6, "denoise_accuracy": 5 / 6}
    for name, share in expected.items():
        np.testing.assert_allclose(found[name][second], share, rtol=1e-6)
    assert not np.any(found["answer_right"][~second]) and np.all(found["answer_tokens"][~second])

    means = {name: float(np.mean(values)) for name, values in found.items()}
    shown = accuracies(means)
    rest = means.keys() - set(SHARES)
    assert shown.keys() == rest | {"answer_accuracy", "fill_accuracy"}
    right, tokens = second.sum(), 2 * second.sum() + 6 * np.sum(~second)
    np.testing.assert_allclose(shown["answer_accuracy"], right / tokens, rtol=1e-5)
    assert shown["fill_accuracy"] == 1
    # Without a fill there is no figure of it.
    alone = {name: float(values[~second][0]) for name, values in found.items()}
    assert accuracies(alone).keys() == rest | {"answer_accuracy"}


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
        soft = first_passes(model, canvas, context, config)
        return soft, model.soft_embed(model.denoise(canvas, repeated)), context

    soft, every, context = run(state)
    conditioned = np.abs(soft).max(axis=(1, 2)) > 0
    assert conditioned.tolist() == [bool(x) for x in expected]
    np.testing.assert_allclose(soft[conditioned], every[conditioned], atol=1e-5)
    none = LossConfig(canvas_size=C, noise_draws=draws, self_conditioning=0.0)
    assert first_passes(model, canvas, context, none) is None


def test_further_passes_see_the_soft_embeddings_of_those_before(split):
    graph, state = split
    config = LossConfig(C, noise_draws=4, self_conditioning=0.75, passes=3, pass_temperature=0.5)
    rng = np.random.default_rng(0)
    prompt = rng.integers(3, 64, (1, C)).astype(np.int32)
    canvas = rng.integers(3, 64, (4, C)).astype(np.int32)

    @jax.jit
    def run(state):
        model = nnx.merge(graph, state)
        _, context = model.encode(prompt, logits="none")
        soft, once = None, []
        for _ in range(3):
            soft = model.soft_embed(model.denoise(canvas, context, soft) / 0.5)
            once.append(soft)
        return first_passes(model, canvas, context, config), once

    soft, (one, two, three) = run(state)
    for row, expected in enumerate((three, two, one, jnp.zeros_like(one))):
        np.testing.assert_allclose(soft[row], expected[row], atol=1e-5)
    assert np.abs(two - one).max() > 1e-2 and np.abs(three - two).max() > 1e-2


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(
        ValueError, match=r"loss\.passes 3 must be at least 1 and divide the number"
    ):
        LossConfig(canvas_size=C, noise_draws=4, passes=3)
    with pytest.raises(ValueError, match=r"loss\.noise_power must be above 0, not 0\.0"):
        LossConfig(canvas_size=C, noise_power=0.0)
    with pytest.raises(ValueError, match="pass_temperature"):
        LossConfig(canvas_size=C, pass_temperature=0.0)
    with pytest.raises(ValueError, match=r"self_conditioning = 1\.5 must be a whole number"):
        LossConfig(canvas_size=C, noise_draws=3)
    with pytest.raises(ValueError, match="encoder_targets must be 'all' or 'answer', not 'some'"):
        LossConfig(canvas_size=C, encoder_targets="some")


def test_no_gradient_flows_into_the_first_pass(split):
    graph, state = split
    canvas = np.random.default_rng(0).integers(3, 64, (2, C)).astype(np.int32)

    def total(state):
        model = nnx.merge(graph, state)
        _, cache = model.encode(canvas)
        return jnp.sum(first_passes(model, canvas, cache, LossConfig(canvas_size=C)) ** 2)

    grads = jax.jit(jax.grad(total))(state)
    assert all(not np.any(g) for g in jax.tree.leaves(grads))
