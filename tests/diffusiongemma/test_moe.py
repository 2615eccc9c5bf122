"""The mixture of experts against the plain sum over chosen experts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.backend import set_backend
from diffusiongemma.lora import add_lora
from diffusiongemma.moe import ExpertLinear, MoE
from diffusiongemma.ops import dense_experts
from diffusiongemma.ops.expert_loop import Expert, Experts
from diffusiongemma.ops.quantized import quantize


def linear(layer: ExpertLinear, experts: jax.Array, x: jax.Array) -> jax.Array:
    """[N, k, in] -> [N, k, out] by the experts [N, k], each with a copy of its kernel."""
    kernels = layer.kernel[...]
    if layer.lora_a is not None:
        kernels = kernels + layer.lora_a[...] @ layer.lora_b[...] * layer.lora_scale
    return jnp.einsum("nki,nkio->nko", x, kernels[experts])


def plain_moe(moe: MoE, x: jax.Array, residual: jax.Array) -> jax.Array:
    """The sum over every token's chosen experts: [N, D] -> [N, D]."""
    weights, experts = moe.router(residual)
    x = jnp.repeat(x[:, None], experts.shape[1], axis=1)
    gate, up = jnp.split(linear(moe.gate_up, experts, x), 2, axis=-1)
    hidden = jax.nn.gelu(gate, approximate=True) * up
    return jnp.einsum("nkd,nk->nd", linear(moe.down, experts, hidden), weights)


@pytest.mark.parametrize(
    ("num_tokens", "backend"), [(1, None), (7, None), (40, None), (7, "dense")]
)
def test_moe_is_the_plain_sum_over_chosen_experts(num_tokens, backend):
    config = ModelConfig.preset("tiny", num_experts=8, top_k=3)
    moe = MoE(config, rngs=nnx.Rngs(0))
    set_backend(moe, backend)
    rng = np.random.default_rng(num_tokens)
    moe.router.per_expert_scale[...] = jnp.asarray(rng.uniform(0.5, 2, 8), jnp.float32)
    moe.router.scale[...] = jnp.asarray(rng.uniform(0.5, 2, config.width), jnp.float32)
    x, residual = (
        jnp.asarray(rng.normal(size=(1, num_tokens, config.width)), jnp.float32) for _ in range(2)
    )

    @functools.partial(jax.jit, static_argnums=0)
    def with_gradients(apply, x, residual):
        """apply(x, residual), and the gradients of a sum over it."""

        def total(x, residual):
            out = apply(x, residual)
            return jnp.sum(jnp.sin(out)), out

        grads, out = jax.grad(total, (0, 1), has_aux=True)(x, residual)
        return out, *grads

    found = with_gradients(moe.__call__, x, residual)
    plain = with_gradients(lambda x, r: plain_moe(moe, x[0], r[0])[None], x, residual)
    for got, wanted in zip(found, plain, strict=True):
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


@pytest.mark.parametrize(
    ("trained", "backend"),
    [(nnx.Param, "loop"), (nnx.LoRAParam, "loop"), (nnx.LoRAParam, "dense")],
)
def test_gradients_of_the_experts(trained, backend):
    """Gradients of all parameters, and of LoRA factors alone."""
    config = ModelConfig.preset("tiny", num_experts=8, top_k=2)
    moe = MoE(config, rngs=nnx.Rngs(0))
    set_backend(moe, backend)
    add_lora(moe, 2, 6.0, rngs=nnx.Rngs(1))
    for layer in (moe.gate_up, moe.down):
        layer.lora_b[...] = 0.1 * jax.random.normal(jax.random.key(2), layer.lora_b.shape)
    x, residual = jax.random.normal(jax.random.key(3), (2, 1, 12, config.width))
    graphdef, state, rest = nnx.split(moe, trained, ...)

    def gradient(apply):
        def total(state):
            return jnp.sum(jnp.sin(apply(nnx.merge(graphdef, state, rest))))

        return jax.jit(jax.grad(total))(state)

    found = gradient(lambda moe: moe(x, residual))
    expected = gradient(lambda moe: plain_moe(moe, x[0], residual[0]))
    largest = 0.0
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
        largest = max(largest, float(jnp.abs(wanted).max()))
    assert largest > 0.1


def test_only_small_plain_experts_are_computed_as_one_wide_mlp():
    """The dense way is for the small preset on GPUs, never for the 26B or for quantized weights."""

    def supported(name: str) -> bool:
        shape, shapes = ModelConfig.preset(name), jax.ShapeDtypeStruct
        gate_up = shapes((shape.num_experts, shape.width, 2 * shape.expert_dim), jnp.float32)
        down = shapes((shape.num_experts, shape.expert_dim, shape.width), jnp.float32)
        return dense_experts.supports(Experts(Expert(gate_up), Expert(down)))

    assert supported("small") and not supported("26b_a4b") and not supported("medium")
    moe = MoE(ModelConfig.preset("tiny"), rngs=nnx.Rngs(0))
    gate_up = moe.gate_up.params
    packed = Experts(gate_up, Expert(quantize(moe.down.kernel[...], "int8")))
    assert not dense_experts.supports(packed)
    with pytest.raises(ValueError, match="takes no quantized experts"):
        dense_experts.mixture(jnp.ones((3, 32)), jnp.ones((3, 2)), jnp.zeros((3, 2), int), packed)


@pytest.mark.parametrize("backend", ["loop", "interpret"])
def test_no_gradients_are_made_of_frozen_experts(backend):
    moe = MoE(ModelConfig.preset("tiny"), rngs=nnx.Rngs(0))
    set_backend(moe, backend)
    add_lora(moe, 2, 6.0, rngs=nnx.Rngs(1))
    graphdef, factors, frozen = nnx.split(moe, nnx.LoRAParam, ...)
    x = jnp.ones((1, 12, 32))

    def total(factors, frozen):
        return jnp.sum(nnx.merge(graphdef, factors, frozen)(x, x))

    def zeros(*wrt):
        """How many arrays of zeros, shaped as the experts' kernel, the backward pass makes."""
        jaxpr = str(jax.make_jaxpr(jax.grad(total, wrt))(factors, frozen))
        return jaxpr.count(f"f32[{','.join(map(str, moe.gate_up.kernel.shape))}] = broadcast")

    assert zeros(0, 1) > 0
    assert zeros(0) == 0
