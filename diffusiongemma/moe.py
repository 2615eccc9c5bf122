"""Mixture of experts: router, dispatch, and the one grouped matmul."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from diffusiongemma.config import ModelConfig
from diffusiongemma.layers import Linear, expert_init, rms_norm
from diffusiongemma.sharding import over_experts


class Groups(NamedTuple):
    """Rows sorted by expert, every expert's rows padded to whole blocks of `block` rows.

    Attributes:
      source: [blocks, block] int32, the row that fills each place; the number of rows: none does.
      expert: [blocks] int32, each block's expert.
      place: [rows] int32, where each row went, in blocks * block.
    """

    source: jax.Array
    expert: jax.Array
    place: jax.Array


def group_rows(expert_ids: jax.Array, num_experts: int, block: int) -> Groups:
    """Sorts rows by expert into blocks that belong to one expert each; no row is ever dropped.

    The work of a grouped matmul over them grows with rows + num_experts * block, not with
    rows * num_experts.

    Args:
      expert_ids: [rows] int32 in 0..num_experts - 1.
      num_experts: E.
      block: rows in a block.
    """
    rows = expert_ids.shape[0]
    num_blocks = -(-rows // block) + min(num_experts, rows)  # a partial block an expert at most
    order = jnp.argsort(expert_ids, stable=True)
    sizes = jnp.zeros((num_experts,), jnp.int32).at[expert_ids].add(1)
    block_ends = jnp.cumsum(-(-sizes // block))
    # A sorted row moves on by the padding of the experts before its own.
    shift = (block_ends * block - jnp.cumsum(sizes)) - (-(-sizes // block) * block - sizes)
    sorted_place = jnp.arange(rows, dtype=jnp.int32) + shift[expert_ids[order]].astype(jnp.int32)
    source = jnp.full((num_blocks * block,), rows, jnp.int32).at[sorted_place].set(order)
    place = jnp.zeros((rows,), jnp.int32).at[order].set(sorted_place)
    expert = jnp.searchsorted(block_ends, jnp.arange(num_blocks), side="right")
    expert = jnp.minimum(expert, num_experts - 1).astype(jnp.int32)
    return Groups(source.reshape(num_blocks, block), expert, place)


def grouped_matmul(x: jax.Array, kernels: jax.Array, expert: jax.Array) -> jax.Array:
    """Multiplies every block of rows by its expert's kernel.

    Args:
      x: [blocks, block, in].
      kernels: [E, in, out].
      expert: [blocks] int32.

    Returns:
      [blocks, block, out].
    """
    return jnp.einsum("bmi,bio->bmo", x, kernels[expert])


class Expert(NamedTuple):
    """A linear map an expert: kernel [E, in, out]; LoRA factors [E, in, r] and [E, r, out]."""

    kernel: jax.Array
    lora_a: jax.Array | None
    lora_b: jax.Array | None


def expert_linear(params: Expert, lora_scale: float, x: jax.Array, expert: jax.Array) -> jax.Array:
    """[blocks, block, in] -> [blocks, block, out] by the experts [blocks]."""
    y = grouped_matmul(x, params.kernel, expert)
    if params.lora_a is not None:
        low = grouped_matmul(x.astype(jnp.float32), params.lora_a, expert)
        low = grouped_matmul(low, params.lora_b, expert)
        y = y + (low * lora_scale).astype(y.dtype)
    return y


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
            return Expert(self.kernel[...], None, None)
        return Expert(self.kernel[...], self.lora_a[...], self.lora_b[...])


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
    """E GeGLU experts, of which each token uses top_k; computed without dropping a token."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.router = Router(config, rngs=rngs, dtype=dtype)
        size = (config.num_experts, config.width, 2 * config.expert_dim)
        self.gate_up = ExpertLinear(*size, rngs=rngs, dtype=dtype)
        size = (config.num_experts, config.expert_dim, config.width)
        self.down = ExpertLinear(*size, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array, residual: jax.Array) -> jax.Array:
        """Experts applied to x, chosen by residual: both [B, T, D]; returns [B, T, D]."""
        shape = x.shape
        x, residual = x.reshape(-1, shape[-1]), residual.reshape(-1, shape[-1])
        weights, experts = self.router(residual)
        params = self.gate_up.params, self.down.params
        return over_experts(self._apply, x, weights, experts, params).astype(x.dtype).reshape(shape)

    def _apply(
        self,
        x: jax.Array,
        weights: jax.Array,
        experts: jax.Array,
        params: tuple[Expert, Expert],
    ) -> jax.Array:
        """Each row's weighted sum of experts, float32 [N, D]; params may hold a part of all."""
        gate_up, down = params
        num_experts, top_k = gate_up.kernel.shape[0], experts.shape[1]
        groups = group_rows(
            experts.reshape(-1), num_experts, _block_size(experts.size, num_experts)
        )
        # Row r is token r // top_k; the place of no row reads a row of zeros.
        rows = x.at[groups.source // top_k].get(mode="fill", fill_value=0)
        both = expert_linear(gate_up, self.gate_up.lora_scale, rows, groups.expert)
        gate, up = jnp.split(both, 2, axis=-1)
        hidden = jax.nn.gelu(gate, approximate=True) * up
        out = expert_linear(down, self.down.lora_scale, hidden, groups.expert)
        out = out.reshape(-1, out.shape[-1])[groups.place].reshape(-1, top_k, out.shape[-1])
        return jnp.einsum("nkd,nk->nd", out.astype(jnp.float32), weights)


def _block_size(rows: int, num_experts: int) -> int:
    """Rows a block: about a quarter of an expert's share, a power of two within 8..128."""
    share = max(rows // (4 * num_experts), 1)
    return min(max(1 << (share - 1).bit_length(), 8), 128)
