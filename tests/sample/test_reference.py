"""The compiled sampler against TR algorithm 1 written out in plain Python, token by token."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sample import generate

PROMPT = 10


@pytest.fixture(scope="module")
def reference_of(lively_model):
    """Compiled encode, denoise and soft_embed for one row, contexts padded to one length."""
    graphdef, state = nnx.split(lively_model)
    size = PROMPT + 2 * lively_model.config.canvas_size

    @jax.jit
    def encode(tokens, mask):
        model = nnx.merge(graphdef, state)
        return model.encode(tokens, model.init_cache(1, size), mask, logits="none")[1]

    denoise = jax.jit(lambda *args: nnx.merge(graphdef, state).denoise(*args))
    soft_embed = jax.jit(lambda logits: nnx.merge(graphdef, state).soft_embed(logits))

    def context(tokens: list[int]):
        row = np.zeros((1, size), np.int32)
        row[0, : len(tokens)] = tokens
        return encode(row, np.arange(size)[None] < len(tokens))

    def run(config, prompt: list[int], key):
        parts = context, denoise, soft_embed
        return algorithm_one(lively_model.config, config, *parts, prompt, key)

    return run


def algorithm_one(model, config, context, denoise, soft_embed, prompt, key):
    """One row: its tokens, and for every canvas a list of what is recorded of each step."""
    c, vocab, num_steps = model.canvas_size, model.vocab_size, config.max_steps
    key = jax.random.fold_in(key, zlib.crc32(np.array(prompt, "<i4").tobytes()))
    emitted, canvases, valid = [], [], []
    while len(emitted) < config.max_new_tokens and not (emitted and emitted[-1] in config.stop_ids):
        cache = context(prompt + emitted)  # read afresh: what was committed must amount to this
        canvas_key = jax.random.fold_in(key, len(canvases))
        x = jax.random.randint(jax.random.fold_in(canvas_key, 0), (c,), 0, vocab)
        soft, previous, steps = jnp.zeros((1, c, model.width)), None, []
        for n in range(1, num_steps + 1):
            tau = 0.4 + 0.4 * (num_steps - n + 1) / num_steps
            logits = denoise(x[None], cache, soft)
            tempered = np.asarray(logits[0], np.float64) / tau
            best = [int(np.argmax(row)) for row in tempered]
            entropy, tops = [], []
            for row in tempered:
                p = np.exp(row - row.max())
                p /= p.sum()
                entropy.append(-sum(q * np.log(q) for q in p if q > 0))
                order = np.argsort(-p, kind="stable")[: config.candidates]
                tops.append((order, p[order]))
            seen = best, entropy, x.tolist(), *zip(*tops, strict=True)
            if n > 1 and sum(entropy) / c <= config.stop_threshold and best == previous:
                steps.append(([False] * c, *seen))
                break
            previous = best
            draw_key, noise_key = jax.random.split(jax.random.fold_in(canvas_key, n))
            # The vocabulary is a single block, so there is one uniform number a draw.
            uniform = jax.random.uniform(jax.random.split(draw_key)[1], (c,))
            drawn = [inverse(*pair) for pair in zip(tempered, 1 - uniform, strict=True)]
            fresh = jax.random.randint(noise_key, (c,), 0, vocab)
            accepted, total = [False] * c, 0.0
            for i in sorted(range(c), key=lambda i: (entropy[i], i)):
                if total > config.entropy_bound:
                    break
                accepted[i] = True
                total += entropy[i]
            soft = soft_embed(logits / tau)
            if config.restart_every and n % config.restart_every == 0:
                accepted, soft = [False] * c, jnp.zeros_like(soft)
            x = jnp.array([drawn[i] if accepted[i] else fresh[i] for i in range(c)])
            steps.append((accepted, *seen))
        canvases.append(steps)
        room = config.max_new_tokens - len(emitted)
        new = []
        for token in best[:room]:
            new.append(token)
            if token in config.stop_ids:
                break
        emitted += new
        valid.append(len(new))
    emitted += [model.pad_id] * (config.max_new_tokens - len(emitted))
    return emitted, valid, canvases


def inverse(logits: np.ndarray, u: float) -> int:
    """The first token at which softmax(logits), summed up, reaches u."""
    p = np.exp(logits - logits.max())
    total = 0.0
    for token, q in enumerate(p / p.sum()):
        total += q
        if total >= u:
            return token
    return len(p) - 1


@pytest.mark.parametrize(("seed", "restart_every"), [(1, None), (3, None), (1, 4)])
def test_equals_algorithm_one(lively_model, lively_config, reference_of, seed, restart_every):
    config = dataclasses.replace(lively_config, restart_every=restart_every)
    rng = np.random.default_rng(0)
    lengths = [10, 4, 7, 1, 2, 9]
    tokens = rng.integers(3, 49, (6, PROMPT)).astype(np.int32)
    mask = np.arange(PROMPT) < np.array(lengths)[:, None]
    key = jax.random.key(seed)
    got = generate(lively_model, tokens, mask, key, config)

    step_counts, canvas_counts = set(), set()
    for b, length in enumerate(lengths):
        row, valid, canvases = reference_of(config, tokens[b, :length].tolist(), key)
        begun = len(canvases)
        canvas_counts.add(begun)
        assert got.tokens[b].tolist() == row
        assert got.valid_tokens[b].tolist() == valid + [0] * (3 - begun)
        assert got.steps[b].tolist() == [len(steps) for steps in canvases] + [0] * (3 - begun)
        for k, steps in enumerate(canvases):
            step_counts.add(len(steps))
            columns = (np.array(x) for x in zip(*steps, strict=True))
            accepted, best, entropy, canvas, ids, probabilities = columns
            taken = len(steps)
            np.testing.assert_array_equal(got.best[b, k, :taken], best)
            np.testing.assert_array_equal(got.accepted[b, k, :taken], accepted)
            np.testing.assert_allclose(got.entropy[b, k, :taken], entropy, atol=2e-3)
            assert (got.best[b, k, taken:] == -1).all() and (got.entropy[b, k, taken:] == -1).all()
            assert not got.accepted[b, k, taken:].any()
            np.testing.assert_array_equal(got.canvas[b, k, :taken], canvas)
            found = got.candidates.probabilities[b, k, :taken]
            np.testing.assert_allclose(found, probabilities, atol=1e-3)
            # Rounding may swap two tokens that are almost equally probable.
            same = got.candidates.ids[b, k, :taken] == ids
            assert same.mean() > 0.97 and (abs(found - probabilities)[~same] < 1e-3).all()
            assert (got.candidates.ids[b, k, taken:] == -1).all()
            assert (got.canvas[b, k, taken:] == -1).all()
        assert (got.best[b, begun:] == -1).all()
    # The comparison says something only if rows stop at different steps, and some at none.
    assert len(step_counts) >= 3 and lively_config.max_steps in step_counts
    assert len(canvas_counts) >= 2 and 3 in canvas_counts
    assert 0.1 < got.accepted[got.best >= 0].mean() < 0.95
