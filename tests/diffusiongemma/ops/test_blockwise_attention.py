"""Attention in chunks of keys and in a band, against one plain softmax, with gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusiongemma.ops import blockwise_attention as module
from diffusiongemma.ops import masks
from diffusiongemma.ops.blockwise_attention import Part, attend, attend_band

B, T, H, K, D = 2, 6, 4, 2, 8
NEW, CACHED = 6, 300  # 300 = 44 + 2 x 128


@pytest.fixture(scope="module")
def arrays():
    """Queries, keys and values; a cache whose rows are filled to different lengths."""
    rng = np.random.default_rng(0)
    shapes = [(B, T, H, D), *[(B, K, NEW, D)] * 2, *[(B, K, CACHED, D)] * 2]
    q, *kv = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    length = np.array([300, 130])
    cached = np.asarray(masks.slot_positions(jnp.array(length), CACHED))
    query = length[:, None] + np.arange(T)
    return q, kv, query, cached


def plain(q, kv, query, cached, window):
    """A softmax over all keys side by side, in float64."""
    keys, values = (np.concatenate([kv[i + 2], kv[i]], axis=2).astype(float) for i in (0, 1))
    at = np.concatenate([cached, query], axis=1)[:, None]
    seen = (at >= 0) & (at <= query[..., None]) & (query[..., None] - at < window)
    out = np.zeros((B, T, H, D))
    for h in range(H):
        scores = np.einsum("btd,bsd->bts", q[:, :, h], keys[:, h * K // H])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True)) * seen
        weights /= weights.sum(axis=-1, keepdims=True)
        out[:, :, h] = weights @ values[:, h * K // H]
    return out


@pytest.mark.parametrize("window", [masks.NO_WINDOW, 140])
@pytest.mark.parametrize("score_bytes", [1, 1 << 20])
def test_chunks_of_keys_change_nothing(arrays, monkeypatch, window, score_bytes):
    monkeypatch.setattr(module, "SCORE_BYTES", score_bytes)
    q, kv, query, cached = arrays

    def run(q, kv):
        parts = [Part(kv[0], kv[1], query), Part(kv[2], kv[3], cached)]
        return attend(q, parts, query, window)

    out, gradients = run(q, kv), jax.jit(jax.grad(lambda *x: jnp.sum(run(*x) ** 2), (0, 1)))
    np.testing.assert_allclose(out, plain(*arrays, window), atol=2e-6)
    assert ("scan" in str(jax.make_jaxpr(run)(q, kv))) == (score_bytes == 1)
    # The derivative along a random direction.
    rng = np.random.default_rng(1)
    step = jax.tree.map(lambda x: rng.normal(size=x.shape), (q, kv))

    def loss_at(e: float) -> float:
        moved = jax.tree.map(lambda x, d: x + e * d, (q, kv), step)
        return np.sum(plain(*moved, query, cached, window) ** 2)

    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradients(q, kv), step)))
    assert slope == pytest.approx((loss_at(1e-4) - loss_at(-1e-4)) / 2e-4, rel=1e-5)


@pytest.mark.parametrize(
    ("num_tokens", "spans"), [(3, False), (12, False), (13, False), (29, False), (29, True)]
)
def test_a_band_is_the_window_of_all(num_tokens, spans):
    window, reach = 4, None
    rng = np.random.default_rng(2)
    q = rng.normal(size=(B, num_tokens, H, D)).astype(np.float32)
    kv = rng.normal(size=(2, B, K, num_tokens, D)).astype(np.float32)
    positions = np.array([[0], [7]]) + np.arange(num_tokens)
    if spans:  # the longest is longer than the window
        in_span = np.isin(np.arange(num_tokens), [0, 1, *range(5, 17), 19, *range(26, 29)])
        in_span = np.broadcast_to(in_span, positions.shape)
        reach = masks.span_reach(jnp.array(positions), jnp.array(in_span), None, window)
    part = rng.normal(size=q.shape)  # the gradient of a sum with these weights is compared

    def whole(q, kv):
        return attend(q, [Part(*kv, positions)], positions, window, reach)

    def band(q, kv):
        return attend_band(q, *kv, positions, window, reach)

    def gradients(run):
        return jax.jit(jax.grad(lambda q, kv: jnp.sum(run(q, kv) * part), (0, 1)))(q, kv)

    np.testing.assert_allclose(jax.jit(band)(q, kv), jax.jit(whole)(q, kv), atol=1e-6)
    for found, expected in zip(gradients(band), gradients(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)
