"""Dispatch and grouped matmul against the plain sum over chosen experts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.moe import MoE, group_rows, grouped_matmul


@pytest.mark.parametrize(
    "ids",
    [
        [0, 1, 2, 3] * 5,
        [2] * 17,  # all rows to one expert
        [3, 0, 3, 3, 0],  # empty experts
        [1],
        np.random.default_rng(0).integers(0, 4, 100).tolist(),
    ],
)
@pytest.mark.parametrize("block", [1, 4, 8, 64])
def test_every_row_lies_once_in_a_block_of_its_expert(ids, block):
    ids = np.array(ids, np.int32)
    groups = jax.tree.map(np.asarray, group_rows(jnp.asarray(ids), 4, block))
    assert groups.source.shape[1] == block
    flat = groups.source.reshape(-1)
    np.testing.assert_array_equal(np.sort(flat[flat < len(ids)]), np.arange(len(ids)))
    np.testing.assert_array_equal(flat[groups.place], np.arange(len(ids)))
    rows, columns = np.nonzero(groups.source < len(ids))
    np.testing.assert_array_equal(ids[groups.source[rows, columns]], groups.expert[rows])


def plain_moe(moe: MoE, x: jax.Array, residual: jax.Array) -> jax.Array:
    """Every token's chosen experts, one at a time."""
    weights, experts = moe.router(residual)
    outputs = []
    for token, (w, e) in enumerate(zip(weights, experts, strict=True)):
        total = 0
        for weight, expert in zip(w, e, strict=True):
            gate, up = jnp.split(x[token] @ moe.gate_up.kernel[...][expert], 2)
            hidden = jax.nn.gelu(gate, approximate=True) * up
            total += weight * (hidden @ moe.down.kernel[...][expert])
        outputs.append(total)
    return jnp.stack(outputs)


@pytest.mark.parametrize("num_tokens", [1, 7, 40])
def test_moe_is_the_plain_sum_over_chosen_experts(num_tokens):
    config = ModelConfig.preset("tiny", num_experts=8, top_k=3)
    moe = MoE(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(num_tokens)
    moe.router.per_expert_scale[...] = jnp.asarray(rng.uniform(0.5, 2, 8), jnp.float32)
    moe.router.scale[...] = jnp.asarray(rng.uniform(0.5, 2, config.width), jnp.float32)
    x, residual = (
        jnp.asarray(rng.normal(size=(1, num_tokens, config.width)), jnp.float32) for _ in range(2)
    )
    np.testing.assert_allclose(moe(x, residual)[0], plain_moe(moe, x[0], residual[0]), atol=1e-5)

    def total(f, args):
        return jnp.sum(jnp.sin(f(*args)))

    grads = jax.grad(lambda a: total(moe, a))((x, residual))
    expected = jax.grad(lambda a: total(lambda x, r: plain_moe(moe, x[0], r[0]), a))((x, residual))
    for got, wanted in zip(grads, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_router_weights_sum_to_one_before_the_expert_scale():
    config = ModelConfig.preset("tiny")
    router = MoE(config, rngs=nnx.Rngs(0)).router
    residual = jax.random.normal(jax.random.key(0), (9, config.width))
    weights, experts = router(residual)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    router.per_expert_scale[...] = jnp.arange(1.0, 5.0)
    scaled, same = router(residual)
    np.testing.assert_array_equal(experts, same)
    np.testing.assert_allclose(scaled, weights * (experts + 1), rtol=1e-6)


def test_grouped_matmul_uses_each_block_its_kernel():
    x = jax.random.normal(jax.random.key(0), (5, 4, 6))
    kernels = jax.random.normal(jax.random.key(1), (3, 6, 2))
    expert = jnp.array([2, 0, 0, 1, 2])
    out = grouped_matmul(x, kernels, expert)
    for block in range(5):
        np.testing.assert_allclose(out[block], x[block] @ kernels[expert[block]], atol=1e-5)
