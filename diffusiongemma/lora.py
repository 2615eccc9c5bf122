"""LoRA (Hu et al. 2021): low-rank factors beside chosen linear maps, and merging them in."""

import re

import jax
import jax.numpy as jnp
from flax import nnx

from diffusiongemma.layers import Linear
from diffusiongemma.moe import ExpertLinear
from diffusiongemma.ops.quantized import QuantizedMatrix


def add_lora(
    model: nnx.Module, rank: int, alpha: float, *, rngs: nnx.Rngs, pattern: str = ".*"
) -> list[str]:
    """Gives each matching linear map float32 factors A and B, in place.

    y = x W + (alpha / rank) x A B. A is normal with variance 1 / in, and B is zeros, so the model
    computes the same until B is trained. Each expert gets a pair of factors of its own.

    Args:
      model: a DiffusionGemma, or a part of one.
      rank: r, at least 1.
      alpha: the factors' scale, before it is divided by the rank.
      rngs: source of A.
      pattern: regular expression that is searched in a map's path, such as "layers.3.attention.q".

    Returns:
      the paths of the maps that got factors.

    Raises:
      ValueError: the rank is not positive, or no map matches.
    """
    if rank < 1:
        raise ValueError(f"lora rank must be at least 1, not {rank}")
    paths = []
    for path, linear in linears(model):
        if not re.search(pattern, path):
            continue
        *stack, in_dim, out_dim = linear.kernel.shape
        a = jax.random.normal(rngs.params(), (*stack, in_dim, rank), jnp.float32) * in_dim**-0.5
        linear.lora_a = nnx.LoRAParam(a)
        linear.lora_b = nnx.LoRAParam(jnp.zeros((*stack, rank, out_dim), jnp.float32))
        linear.lora_scale = alpha / rank
        paths.append(path)
    if not paths:
        raise ValueError(f"lora pattern '{pattern}' matches no linear map of the model")
    return paths


def merge_lora(model: nnx.Module) -> None:
    """Adds every pair of factors to its kernel and removes the pair, in place.

    Raises:
      ValueError: a kernel is quantized; its steps are coarser than the factors.
    """
    adapted = [(path, linear) for path, linear in linears(model) if linear.lora_a is not None]
    for path, linear in adapted:
        if isinstance(linear.kernel, QuantizedMatrix):
            raise ValueError(f"{path} is quantized, so factors cannot be merged into it")
    for _, linear in adapted:
        factors = linear.lora_a[...], linear.lora_b[...], linear.lora_scale
        linear.kernel[...] = merged(linear.kernel[...], *factors)
        linear.lora_a, linear.lora_b, linear.lora_scale = nnx.data(None), nnx.data(None), 1.0


def merged(kernel: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    """kernel [.., in, out] + scale x a [.., in, r] @ b [.., r, out], in the kernel's dtype."""
    return (kernel.astype(jnp.float32) + a @ b * scale).astype(kernel.dtype)


def linears(model: nnx.Module) -> list[tuple[str, Linear | ExpertLinear]]:
    """Path and module of every linear map, in a fixed order."""
    return [
        (".".join(map(str, path)), node)
        for path, node in nnx.iter_graph(model)
        if isinstance(node, Linear | ExpertLinear)
    ]
