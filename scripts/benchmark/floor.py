"""The least that a denoising step must read and compute, and how fast the machine can do that."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.attention import KVCache
from diffusiongemma.moe import MoE
from sample.split_model import SplitModel
from scripts.benchmark.inputs import Inputs
from scripts.benchmark.timing import measure

EXPERTS = (".moe.gate_up.", ".moe.down.")  # in the names of the experts' parameters


def touched_experts(inputs: Inputs) -> list[int]:
    """For each layer, the number of experts that some token of the canvas chooses."""

    @jax.jit
    def count(
        split: SplitModel, canvas: jax.Array, cache: KVCache, soft: jax.Array
    ) -> list[jax.Array]:
        model = split.merge()
        found = []
        for block in model.layers:
            block.moe = nnx.static(functools.partial(_watched, block.moe, found))
        model.canvas_states(canvas, cache, soft)
        return found

    return [int(n) for n in count(inputs.split, inputs.canvas, inputs.cache, inputs.soft)]


def _watched(moe: MoE, found: list[jax.Array], x: jax.Array, residual: jax.Array) -> jax.Array:
    """Runs a mixture, and adds the number of its chosen experts to `found`."""
    _, experts = moe.router(residual.reshape(-1, residual.shape[-1]))
    num = moe.router.per_expert_scale.shape[0]
    found.append(jnp.sum(jnp.any(experts.reshape(-1, 1) == jnp.arange(num), axis=0)))
    return moe(x, residual=residual)


def floor_bytes(inputs: Inputs, touched: list[int] | None) -> int:
    """Bytes that a step cannot but read: weights and KV cache, each of them once.

    Args:
      touched: number of experts read in each layer; None for all experts.
    """
    total = sum(x.nbytes for x in jax.tree.leaves(inputs.cache.layers))
    num_experts = inputs.model.config.num_experts
    for path, leaf in jax.tree_util.tree_leaves_with_path(inputs.split.state):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        part = 1.0
        if touched and any(stack in name for stack in EXPERTS):
            part = touched[int(name.split(".")[1])] / num_experts
        total += int(leaf.nbytes * part)
    return total


def floor_flops(config: ModelConfig, batch: int) -> int:
    """Multiplications and additions in a step's matmuls, without attention's scores."""
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    weights = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(model)):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if leaf.ndim > 1:
            part = config.top_k / config.num_experts if any(e in name for e in EXPERTS) else 1.0
            part = 2.0 if "embedding" in name else part  # in the head and in the soft embedding
            weights += leaf.size * part
    return int(2 * weights * batch * config.canvas_size)


def copy_bandwidth(repeats: int = 10) -> float:
    """Bytes a second, read and written, of a copy that is much larger than any cache."""
    size = 1 << (30 if jax.default_backend() == "gpu" else 26)
    x = jnp.arange(size, dtype=jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / min(measure(lambda: copy(x), repeats).seconds)


def matmul_rate(dtype: DTypeLike, repeats: int = 5) -> float:
    """Floating-point operations a second of a large matmul."""
    size = 8192 if jax.default_backend() == "gpu" else 1536
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / min(measure(lambda: product(x, x), repeats).seconds)
