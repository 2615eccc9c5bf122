"""Mixture of experts: the router, the experts, and their weighted sum."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from diffusiongemma.backend import Backend
from diffusiongemma.config import ModelConfig
from diffusiongemma.kernels import expert_mixture, group_rows
from diffusiongemma.layers import Linear, expert_init, rms_norm
from diffusiongemma.ops import expert_loop
from diffusiongemma.ops.quantized import Quantized, matmul
from diffusiongemma.sharding import over_experts, platform


class Expert(NamedTuple):
    """Linear maps of E experts: kernel [E, in, out]; LoRA factors [E, in, r] and [E, r, out]."""

    kernel: jax.Array | Quantized
    lora_a: jax.Array | None = None
    lora_b: jax.Array | None = None  # with the scale in it


class Experts(NamedTuple):
    """The maps of a mixture: gate and up as one, and down."""

    gate_up: Expert
    down: Expert


def expert_linear(params: Expert, x: jax.Array) -> jax.Array:
    """[rows, in] -> [rows, out] by one expert, whose params have no axis E."""
    y = matmul(x, params.kernel)
    if params.lora_a is not None:
        y = y + (x.astype(jnp.float32) @ params.lora_a @ params.lora_b).astype(y.dtype)
    return y


def expert_mlp(x: jax.Array, params: Experts) -> jax.Array:
    """GeGLU of one expert, [rows, D] -> [rows, D]."""
    gate_up, down = params
    gate, up = jnp.split(expert_linear(gate_up, x), 2, axis=-1)
    return expert_linear(down, jax.nn.gelu(gate, approximate=True) * up)


class ExpertLinear(nnx.Module):
    """A Linear an expert: kernel [E, in_dim, out_dim], LoRA factors stacked likewise."""

    def __init__(
        self, num_experts: int, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype=jnp.float32
    ):
        self.kernel = nnx.Param(expert_init(rngs.params(), (num_experts, in_dim, out_dim), dtype))
        self.lora_a = nnx.data(None)
        self.lora_b = nnx.data(None)
        self.lora_scale = 1.0

    @property
    def params(self) -> Expert:
        if self.lora_a is None:
            return Expert(self.kernel[...])
        return Expert(self.kernel[...], self.lora_a[...], self.lora_b[...] * self.lora_scale)


class Router(nnx.Module):
    """Chooses top_k experts a token from the raw residual stream (SPEC section 1)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.proj = Linear(config.width, config.num_experts, rngs=rngs, dtype=dtype)
        self.scale = nnx.Param(jnp.ones((config.width,), dtype))
        self.per_expert_scale = nnx.Param(jnp.ones((config.num_experts,), dtype))
        self.top_k = config.top_k
        self.eps = config.norm_eps

    def __call__(self, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[N, D] -> weights [N, top_k] float32, experts [N, top_k] int32."""
        x = rms_norm(residual, self.eps).astype(residual.dtype)
        x = x * self.scale[...] * jnp.asarray(residual.shape[-1] ** -0.5, residual.dtype)
        probabilities = jax.nn.softmax(self.proj(x).astype(jnp.float32), axis=-1)
        weights, experts = jax.lax.top_k(probabilities, self.top_k)
        weights = weights / weights.sum(axis=-1, keepdims=True)
        return weights * self.per_expert_scale[...][experts].astype(jnp.float32), experts


class MoE(nnx.Module):
    """E GeGLU experts, of which each token uses top_k; computed without dropping a token.

    Attributes:
      backend: how; None: the platform's way (backend.py).
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.router = Router(config, rngs=rngs, dtype=dtype)
        size = (config.num_experts, config.width, 2 * config.expert_dim)
        self.gate_up = ExpertLinear(*size, rngs=rngs, dtype=dtype)
        size = (config.num_experts, config.expert_dim, config.width)
        self.down = ExpertLinear(*size, rngs=rngs, dtype=dtype)
        self.backend: Backend | None = None

    def __call__(self, x: jax.Array, residual: jax.Array) -> jax.Array:
        """Experts applied to x, chosen by residual: both [B, T, D]; returns [B, T, D]."""
        shape = x.shape
        x, residual = x.reshape(-1, shape[-1]), residual.reshape(-1, shape[-1])
        weights, experts = self.router(residual)
        params = Experts(self.gate_up.params, self.down.params)
        apply = functools.partial(mix, backend=self.backend)
        return over_experts(apply, x, weights, experts, params).astype(x.dtype).reshape(shape)


def mix(
    x: jax.Array, weights: jax.Array, experts: jax.Array, params: Experts, backend: Backend | None
) -> jax.Array:
    """Each row's weighted sum of its experts, float32 [N, D]; params may hold a part of all."""
    if backend is None:
        on_gpu = platform() == "gpu" and expert_mixture.supports(params)
        backend = "pallas" if on_gpu else "loop"
    if backend == "reference":
        return _reference(x, weights, experts, params)
    num_experts = jax.tree.leaves(params)[0].shape[0]
    choices = experts.reshape(-1)
    if backend == "loop":
        block = _block_size(choices.size, num_experts)
        groups = expert_loop.group_rows(choices, num_experts, block)
        return expert_loop.mixture(expert_mlp, x, weights, params, groups)
    block, interpret = expert_mixture.block_size(choices.size, num_experts), backend == "interpret"
    groups = group_rows.group_rows(choices, num_experts, block, interpret=interpret)
    return expert_mixture.mixture(x, weights, params, groups, interpret=interpret)


def _reference(x: jax.Array, weights: jax.Array, experts: jax.Array, params: Experts) -> jax.Array:
    every = jax.lax.map(lambda expert: expert_mlp(x, expert), params)  # [E, N, D]
    chosen = every[experts, jnp.arange(x.shape[0])[:, None]]  # [N, top_k, D]
    return jnp.sum(chosen.astype(jnp.float32) * weights[..., None], axis=1)


def _block_size(rows: int, num_experts: int) -> int:
    """Rows a block of the loop: an expert's share, a power of two in 8..64."""
    share = max(rows // num_experts, 1)
    return min(max(1 << (share - 1).bit_length(), 8), 64)
