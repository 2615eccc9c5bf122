"""LoRA (Hu et al. 2021): low-rank factors beside chosen linear maps, and merging them in.

A map has one pair of factors, lora_a and lora_b, that both modes use. Adapters that were trained
elsewhere may have a pair for each mode, beside weights that the modes share: PEFT sees encoder and
decoder as two modules. Such pairs are the attributes encode_lora_a, encode_lora_b, denoise_lora_a
and denoise_lora_b of a map in a layer; a map may have the pair of one mode only. A model with such
pairs computes a layer as `in_mode` gives it. The self-conditioner exists in denoise alone, so one
pair is all that it needs.
"""

import re
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from diffusiongemma.config import Mode
from diffusiongemma.layers import Linear
from diffusiongemma.moe import ExpertLinear
from diffusiongemma.ops.quantized import QuantizedMatrix
from diffusiongemma.parameters import VISION, in_tower

M = TypeVar("M", bound=nnx.Module)

# The mode whose factors they are -> the names of the factors. None: both modes.
NAMES: dict[Mode | None, tuple[str, str]] = {
    None: ("lora_a", "lora_b"),
    "encode": ("encode_lora_a", "encode_lora_b"),
    "denoise": ("denoise_lora_a", "denoise_lora_b"),
}
CANNOT_MERGE = (
    "its LoRA factors are not the same for encode and denoise, which share the weights, so they "
    "cannot be merged into them"
)


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
        The maps of the vision tower match only if the pattern has the word "vision" in it.

    Returns:
      the paths of the maps that got factors.

    Raises:
      ValueError: the rank is not positive, or no map matches.
    """
    if rank < 1:
        raise ValueError(f"lora rank must be at least 1, not {rank}")
    paths = []
    for path, linear in linears(model):
        if not matches(pattern, path):
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


def matches(pattern: str, path: str) -> bool:
    """Whether add_lora with this pattern gives the linear map of this path factors."""
    return reaches(pattern, path) and re.search(pattern, path) is not None


def reaches(pattern: str, path: str) -> bool:
    """Whether a pattern may match the path of a linear map: those of the tower need its name."""
    return not in_tower(path) or VISION in pattern


def in_mode(module: M, mode: Mode) -> M:
    """A module as it is in one mode: the factors of that mode are its lora_a and lora_b.

    Args:
      module: a part of the model, some of whose maps have factors for one mode alone.
      mode: the mode.

    Returns:
      a copy of the module that shares its arrays.
    """
    view = nnx.clone(module)
    for _, linear in linears(view):
        own = {of_mode: _pop(linear, names) for of_mode, names in NAMES.items() if of_mode}
        for name, factor in zip(NAMES[None], own[mode], strict=False):
            setattr(linear, name, factor)
    return view


def _pop(linear: Linear | ExpertLinear, names: tuple[str, str]) -> list[nnx.LoRAParam]:
    """Takes the factors of these names from a map and returns them; none if it has none."""
    pair = [getattr(linear, name) for name in names if name in vars(linear)]
    for name in names[: len(pair)]:
        delattr(linear, name)
    return pair


def merge_lora(model: nnx.Module) -> None:
    """Adds every pair of factors to its kernel and removes the pair, in place.

    Raises:
      ValueError: a kernel is quantized, and its steps are coarser than the factors; or encode and
        denoise have factors of their own.
    """
    separate = {*NAMES["encode"], *NAMES["denoise"]}
    for path, linear in linears(model):
        if separate & set(vars(linear)):
            raise ValueError(f"{path}: {CANNOT_MERGE}")
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
