"""The mixture of experts as one wide MLP, the way of small models on GPUs.

Every expert is computed for every row, and the experts that a row did not choose get weight 0. That
is E / top_k times the arithmetic, in two large products. Grouping rows by expert takes dozens of
small kernels instead, and those take longer than the products where the experts are small.
"""

import jax
import jax.numpy as jnp

from diffusiongemma.ops.expert_loop import Expert, Experts, geglu
from diffusiongemma.ops.quantized import Quantized

WIDEST = 1024  # the most hidden units of all experts together that this way is taken for


def supports(params: Experts) -> bool:
    """Whether the experts are plain arrays and small enough for this way to pay."""
    kernel = params.down.kernel
    return not isinstance(kernel, Quantized) and kernel.shape[0] * kernel.shape[1] <= WIDEST


def mixture(x: jax.Array, weights: jax.Array, experts: jax.Array, params: Experts) -> jax.Array:
    """Each row's weighted sum of its experts' GeGLU MLPs; expert_loop.mixture up to rounding.

    Args:
      x: [N, D], float32 or bfloat16.
      weights: [N, top_k] float32.
      experts: [N, top_k] int32, the experts that each row chose.
      params: the maps of all E experts, however many.

    Returns:
      [N, D] float32.

    Raises:
      ValueError: the experts are quantized.
    """
    if isinstance(params.down.kernel, Quantized):
        raise ValueError("backend 'dense' takes no quantized experts: choose 'loop' or 'pallas'")
    num_experts = params.down.kernel.shape[0]
    # A row chooses an expert once. Only on a mesh it may come twice, once with weight 0.
    gates = jnp.sum(jax.nn.one_hot(experts, num_experts) * weights[..., None], axis=1)  # [N, E]
    hidden = geglu(_each(params.gate_up, x, "nd,edf->nef", "nd,edr->ner"))  # [N, E, f]
    hidden = hidden * gates[..., None].astype(hidden.dtype)
    return _summed(params.down, hidden)


def _each(params: Expert, x: jax.Array, kernel: str, factor: str) -> jax.Array:
    """Every expert's map of every row: x [N, D] -> [N, E, out], LoRA included."""
    y = jnp.einsum(kernel, x, params.kernel)
    if params.lora_a is not None:
        low = jnp.einsum(factor, x.astype(jnp.float32), params.lora_a)
        y = y + jnp.einsum("ner,erf->nef", low, params.lora_b).astype(y.dtype)
    return y


def _summed(params: Expert, hidden: jax.Array) -> jax.Array:
    """The sum over experts of their maps: hidden [N, E, f] -> [N, D] float32, LoRA included."""
    y = jnp.einsum("nef,efd->nd", hidden, params.kernel, preferred_element_type=jnp.float32)
    if params.lora_a is not None:
        low = jnp.einsum("nef,efr->ner", hidden.astype(jnp.float32), params.lora_a)
        y = y + jnp.einsum("ner,erd->nd", low, params.lora_b)
    return y
