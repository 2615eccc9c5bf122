"""The head read in chunks against plain softmax, argmax, entropy and draws in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma import head
from diffusiongemma.head import DrawNoise, block_size, predict
from diffusiongemma.ops.quantized import dequantize, quantize
from tests.diffusiongemma.kernels.gpu_programs import DEPRECATED, lowered, on_gpus

B, C, D = 2, 7, 16
CAP, TAU = 30.0, 0.7


def inputs(vocab_size: int, spread: float, dtype=jnp.float32, width: int = D):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(B, C, width)) * spread, dtype)
    table = jnp.asarray(rng.normal(size=(vocab_size, width)), dtype)
    noise = DrawNoise(
        jnp.asarray(rng.gumbel(size=(B, C, vocab_size // block_size(vocab_size))), jnp.float32),
        jnp.asarray(rng.uniform(size=(B, C)), jnp.float32),
    )
    return x, table, noise


def plain(x, table, noise):
    x, table, gumbel, uniform = (np.asarray(a, np.float64) for a in (x, table, *noise))
    logits = CAP * np.tanh(x @ table.T / CAP) / TAU
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    entropy = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=-1)
    blocks = p.reshape(B, C, gumbel.shape[-1], -1)
    chosen = np.argmax(np.log(blocks.sum(-1)) + gumbel, axis=-1)
    own = np.take_along_axis(blocks, chosen[..., None, None], axis=2)[:, :, 0]
    below = np.cumsum(own, axis=-1) / own.sum(-1, keepdims=True)
    token = np.sum(below < 1 - uniform[..., None], axis=-1)
    drawn = chosen * blocks.shape[-1] + token
    return logits.argmax(-1), drawn, entropy, p @ table * table.shape[1] ** 0.5


@pytest.mark.parametrize(
    ("vocab_size", "num_chunks"), [(64, 1), (1024, None), (1024, 2), (1024, 8), (384, 3), (99, 33)]
)
@pytest.mark.parametrize("spread", [0.02, 1.0, 10.0])  # even, in between, certain
def test_equals_the_plain_way(vocab_size, num_chunks, spread):
    x, table, noise = inputs(vocab_size, spread)
    run = jax.jit(functools.partial(predict, softcap=CAP, num_chunks=num_chunks))
    found = run(x, table, temperature=TAU, noise=noise)
    best, drawn, entropy, soft = plain(x, table, noise)
    np.testing.assert_array_equal(found.best, best)
    np.testing.assert_array_equal(found.drawn, drawn)
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.soft, soft, rtol=1e-5, atol=5e-5)
    assert (best != drawn).any() or spread == 10.0


def test_bfloat16_stays_near():
    x, table, noise = inputs(1024, 1.0, jnp.bfloat16)
    found = predict(x, table, CAP, TAU, noise, num_chunks=4)
    _, _, entropy, soft = plain(x, table, noise)
    assert found.soft.dtype == jnp.bfloat16 and found.entropy.dtype == jnp.float32
    np.testing.assert_allclose(found.entropy, entropy, atol=1e-3)
    np.testing.assert_allclose(np.asarray(found.soft, np.float32), soft, atol=0.1)


def test_draws_follow_the_distribution():
    vocab_size, count = 512, 20_000
    x, table, _ = inputs(vocab_size, 0.5)
    x = jnp.broadcast_to(x[:1, :1], (1, count, D))
    keys = jax.random.split(jax.random.key(0))
    noise = DrawNoise(
        jax.random.gumbel(keys[0], (1, count, 4)), jax.random.uniform(keys[1], (1, count))
    )
    drawn = np.asarray(predict(x, table, CAP, TAU, noise, num_chunks=2).drawn[0])
    logits = CAP * np.tanh(np.asarray(x[0, 0]) @ np.asarray(table).T / CAP) / TAU
    p = np.exp(logits) / np.exp(logits).sum()
    often = p > 5 / count
    expected = np.append(p[often], p[~often].sum()) * count
    counts = np.bincount(drawn, minlength=vocab_size)
    counts = np.append(counts[often], counts[~often].sum())
    chi_square = np.sum((counts - expected) ** 2 / expected)
    # Mean and deviation of chi-square with n degrees of freedom: n and sqrt(2 n).
    assert chi_square < often.sum() + 4 * np.sqrt(2 * often.sum())


def test_the_ends_of_a_draw():
    """u = 0 draws the last token that has any weight, and u near 1 draws the first one."""
    table = jnp.concatenate([jnp.full((2, D), -9.0), jnp.ones((2, D)), jnp.full((4, D), -9.0)])
    x = jnp.full((1, 2, D), 100.0)
    noise = DrawNoise(jnp.zeros((1, 2, 1)), jnp.array([[0.0, 1 - 2**-24]], jnp.float32))
    found = predict(x, table, CAP, 0.1, noise)
    assert found.drawn.tolist() == [[3, 2]] and found.best.tolist() == [[2, 2]]
    np.testing.assert_allclose(found.entropy, np.log(2), rtol=1e-6)


def test_the_best_token_is_the_first_of_equals():
    x, table = jnp.ones((1, 1, D)), jnp.ones((256, D))
    for chunks in (1, 2):
        assert predict(x, table, CAP, TAU, num_chunks=chunks).best == 0


def test_chunks_divide_the_vocabulary_and_keep_to_their_size():
    for rows, vocab_size in [(256, 262_144), (4096, 262_144), (90, 1024), (10_000, 99), (1, 7)]:
        block = block_size(vocab_size)
        chunks = head._num_chunks(rows, vocab_size, block, head.CHUNK_BYTES)
        assert vocab_size // block % chunks == 0
        one = 4 * rows * vocab_size // chunks
        assert one <= head.CHUNK_BYTES or chunks == vocab_size // block
    assert head._num_chunks(90, 1024, 128, 16 << 20) == 1
    assert head._num_chunks(256, 262_144, 128, 16 << 20) == 16


@pytest.mark.parametrize(("num_chunks", "quantized"), [(1, False), (4, False), (4, True)])
def test_by_the_kernels_it_is_the_same(num_chunks, quantized):
    x, table, noise = inputs(1024, 0.1, width=128)
    whole = table
    if quantized:
        table = quantize(table, "int8", by_row=True)
        whole = dequantize(table, jnp.float32)
    best, drawn, entropy, soft = plain(x, whole, noise)
    run = jax.jit(functools.partial(predict, num_chunks=num_chunks, backend="interpret"))
    found = run(x, table, CAP, TAU, noise)
    np.testing.assert_array_equal(found.best, best)
    np.testing.assert_array_equal(found.drawn, drawn)
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.soft, soft, rtol=1e-5, atol=5e-5)


@pytest.mark.filterwarnings(DEPRECATED)
def test_one_gpu_takes_the_kernels():
    x, table = jnp.ones((1, 256, 256), jnp.bfloat16), jnp.ones((1024, 256), jnp.bfloat16)

    def traced(table, devices=1) -> bool:
        with on_gpus(devices):
            return "pallas_call" in str(
                jax.make_jaxpr(predict, static_argnums=2)(x, table, CAP, 1.0)
            )

    assert traced(table)
    assert not traced(table, devices=2)
    assert not traced(table.astype(jnp.float32))
    assert not traced(table[:1000])
    assert traced(quantize(table, "int8", by_row=True))
    for some in (table, quantize(table, "int8", by_row=True)):
        text = lowered(functools.partial(predict, softcap=CAP, temperature=1.0), x, some)
        assert text.count("@__gpu$xla.gpu.triton") == 2
