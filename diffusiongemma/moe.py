"""The mixture of experts: router, experts, and the choice of how their sum is computed.

The router chooses top_k experts for each token. Each expert is a GeGLU MLP, and the result is the
weighted sum of the chosen ones. What an expert computes, and the loop over blocks of rows that is
the way of CPUs, is in ops/expert_loop.py. GPUs take the kernels in kernels/expert_mixture.py, or
one wide MLP (ops/dense_experts.py) where all experts together are small. Read on in layers.py.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffusiongemma.backend import Backend
from diffusiongemma.config import ModelConfig
from diffusiongemma.layers import Linear, expert_init, rms_norm
from diffusiongemma.ops import dense_experts, expert_loop
from diffusiongemma.ops.expert_loop import Expert, Experts, expert_mlp
from diffusiongemma.sharding import over_experts, platform


class ExpertLinear(nnx.Module):
    """A linear map for each of E experts, with optional LoRA factors.

    Attributes:
      kernel: [E, in_dim, out_dim]; it may become quantized (quantized_model.py).
      lora_a: [E, in_dim, r] float32 once lora.add_lora put it there; else None.
      lora_b: [E, r, out_dim] float32 once lora.add_lora put it there; else None.
      lora_scale: factor of x @ lora_a @ lora_b.

    There are more attributes if each mode has LoRA factors of its own (lora.in_mode).
    """

    def __init__(
        self,
        num_experts: int,
        in_dim: int,
        out_dim: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.kernel = nnx.Param(expert_init(rngs.params(), (num_experts, in_dim, out_dim), dtype))
        self.lora_a = nnx.data(None)
        self.lora_b = nnx.data(None)
        self.lora_scale = 1.0

    @property
    def params(self) -> Expert:
        """The arrays as the mixture takes them, LoRA's scale multiplied in."""
        if self.lora_a is None:
            return Expert(self.kernel[...])
        return Expert(self.kernel[...], self.lora_a[...], self.lora_b[...] * self.lora_scale)


class Router(nnx.Module):
    """Chooses top_k experts for each token from the raw residual stream (docs/MODEL.md, Network).

    Attributes:
      proj: D -> E; it is never quantized.
      scale: [D], ones at first, multiplies the normed residual stream.
      per_expert_scale: [E], ones at first, multiplies the weights of the chosen experts.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.proj = Linear(config.width, config.num_experts, rngs=rngs, dtype=dtype)
        self.scale = nnx.Param(jnp.ones((config.width,), dtype))
        self.per_expert_scale = nnx.Param(jnp.ones((config.num_experts,), dtype))
        self.top_k = config.top_k
        self.eps = config.norm_eps

    def __call__(self, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Residual stream [N, D] -> weights [N, top_k] float32, and experts [N, top_k] int32."""
        x = rms_norm(residual, self.eps).astype(residual.dtype)
        x = x * self.scale[...] * jnp.asarray(residual.shape[-1] ** -0.5, residual.dtype)
        probabilities = jax.nn.softmax(self.proj(x).astype(jnp.float32), axis=-1)
        weights, experts = jax.lax.top_k(probabilities, self.top_k)
        weights = weights / weights.sum(axis=-1, keepdims=True)
        return weights * self.per_expert_scale[...][experts].astype(jnp.float32), experts


class MoE(nnx.Module):
    """E experts, of which each token uses top_k. No token is ever dropped.

    Attributes:
      router: chooses the experts.
      gate_up: D -> 2 f for each expert, the gates and then the ups.
      down: f -> D for each expert.
      backend: how the mixture is computed; None chooses by platform (backend.py).
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.router = Router(config, rngs=rngs, dtype=dtype)
        size = (config.num_experts, config.width, 2 * config.expert_dim)
        self.gate_up = ExpertLinear(*size, rngs=rngs, dtype=dtype)
        size = (config.num_experts, config.expert_dim, config.width)
        self.down = ExpertLinear(*size, rngs=rngs, dtype=dtype)
        self.backend: Backend | None = None

    def __call__(self, x: jax.Array, residual: jax.Array) -> jax.Array:
        """The mixture for x [B, T, D], with experts chosen by residual [B, T, D] -> [B, T, D]."""
        shape = x.shape
        x, residual = x.reshape(-1, shape[-1]), residual.reshape(-1, shape[-1])
        weights, experts = self.router(residual)
        params = Experts(self.gate_up.params, self.down.params)
        apply = functools.partial(mix, backend=self.backend)
        return over_experts(apply, x, weights, experts, params).astype(x.dtype).reshape(shape)


def mix(
    x: jax.Array, weights: jax.Array, experts: jax.Array, params: Experts, backend: Backend | None
) -> jax.Array:
    """Each row's weighted sum of its experts.

    Args:
      x: [N, D].
      weights: [N, top_k] float32.
      experts: [N, top_k] int32, numbers of experts in `params`.
      params: the experts of the model, or those of one device.
      backend: how the sum is computed; None chooses by platform.

    Returns:
      [N, D] float32.
    """
    if backend == "reference":
        return _reference(x, weights, experts, params)
    on_gpu = backend is None and platform() == "gpu"
    if backend == "dense" or (on_gpu and dense_experts.supports(params)):
        return dense_experts.mixture(x, weights, experts, params)
    num_experts = jax.tree.leaves(params)[0].shape[0]
    choices = experts.reshape(-1)
    if backend in ("pallas", "interpret") or on_gpu:
        # Imported where they are taken: without a GPU, nothing needs Pallas.
        from diffusiongemma.kernels import expert_mixture
        from diffusiongemma.kernels.group_rows import group_rows_by_kernel

        if backend is not None or expert_mixture.supports(params):
            interpret = backend == "interpret"
            block = expert_mixture.block_size(choices.size, num_experts)
            blocks = group_rows_by_kernel(choices, num_experts, block, interpret=interpret)
            return expert_mixture.mixture(x, weights, params, blocks, interpret=interpret)
    block = expert_loop.block_size(choices.size, num_experts)
    blocks = expert_loop.group_rows(choices, num_experts, block)
    return expert_loop.mixture(x, weights, params, blocks)


def _reference(x: jax.Array, weights: jax.Array, experts: jax.Array, params: Experts) -> jax.Array:
    """The definition: every expert on every row, then the weighted sum of the chosen ones."""
    every = jax.lax.map(lambda expert: expert_mlp(x, expert), params)  # [E, N, D]
    chosen = every[experts, jnp.arange(x.shape[0])[:, None]]  # [N, top_k, D]
    return jnp.sum(chosen.astype(jnp.float32) * weights[..., None], axis=1)
