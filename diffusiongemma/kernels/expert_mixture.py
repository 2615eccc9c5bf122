"""The mixture of experts by the expert_matmul, with gradients.

Rows go into blocks of one expert each, places are numbered through all blocks, and every sum over
rows is written as a gather: from places to rows and from rows to places, forward and backward.
Scatters would add in another order each time.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.kernels import expert_matmul
from diffusiongemma.kernels.expert_matmul import Blocks
from diffusiongemma.kernels.packed_weights import Weight
from diffusiongemma.ops.expert_loop import Groups


class Route(NamedTuple):
    """Which rows lie where.

    Attributes:
      blocks: the row in each place.
      places: [rows, m] int32, the places of each row; the number of places and more: none.
    """

    blocks: Blocks
    places: jax.Array


def supports(params: Any) -> bool:
    """Whether there are kernels for the shapes of experts: (gate and up, down) as mixture's."""
    return all(expert_matmul.supports(_weight(p.kernel)) for p in params)


def block_size(rows: int, num_experts: int) -> int:
    """Rows a block: twice an expert's share, a power of two within 16..128."""
    share = max(2 * rows // num_experts, 1)
    return min(max(1 << (share - 1).bit_length(), 16), 128)


def mixture(
    x: jax.Array, weights: jax.Array, params: Any, groups: Groups, *, interpret: bool = False
) -> jax.Array:
    """Each token's weighted sum of its experts' GeGLU MLPs.

    Gradients of kernels are made only if they are wanted, and never of quantized ones.

    Args:
      x: [N, D], float32 or bfloat16.
      weights: [N, top_k] float32.
      params: (gate and up as one map, down), each with a kernel [E, in, out], or quantized as
        (values, scales) (kernel_words.py), and lora_a and lora_b, factors or None.
      groups: of the N * top_k choices, token by token.
      interpret: run the kernels as plain JAX, on any platform.

    Returns:
      [N, D] float32.
    """
    gate_up, down = params
    places = groups.place.reshape(weights.shape)
    size, num_rows = groups.source.size, groups.place.size
    blocks = Blocks(groups.source // weights.shape[1], groups.expert, groups.used)
    tokens = Route(blocks, places)
    own = _own(groups.source, num_rows)
    in_place = Route(blocks._replace(index=own), own.reshape(size, 1))

    if gate_up.lora_a is None:
        hidden = _product(True, interpret, x, _weight(gate_up.kernel), tokens)
    else:
        hidden = _geglu(_linear(gate_up, x, tokens, interpret))
    out = _linear(down, hidden.reshape(size, -1), in_place, interpret)
    chosen = _take(out.reshape(size, -1), places, groups.source.reshape(size, 1))
    return jnp.sum(chosen.astype(jnp.float32) * weights[..., None], axis=1)


def _weight(kernel: Any) -> Weight:
    return Weight(*kernel) if isinstance(kernel, tuple) else Weight(kernel)


def _own(index: jax.Array, num_rows: int) -> jax.Array:
    """[blocks, block]: the number of each place with a row; the number of places in the others."""
    places = jnp.arange(index.size, dtype=jnp.int32).reshape(index.shape)
    return jnp.where(index < num_rows, places, index.size)


def _geglu(gate_up: jax.Array) -> jax.Array:
    gate, up = jnp.split(gate_up, 2, axis=-1)
    return jax.nn.gelu(gate, approximate=True) * up


def _linear(params: Any, x: jax.Array, route: Route, interpret: bool) -> jax.Array:
    """x [rows, in] -> [blocks, block, out] by the experts of the blocks, LoRA included."""
    y = _product(False, interpret, x, _weight(params.kernel), route)
    if params.lora_a is None:
        return y
    a, b = (
        factor.at[route.blocks.expert].get(indices_are_sorted=True)
        for factor in (params.lora_a, params.lora_b)
    )
    rows = _take(x, route.blocks.index, route.places).astype(jnp.float32)
    return y + (rows @ a @ b).astype(y.dtype)


@jax.custom_vjp
def _take(x: jax.Array, index: jax.Array, inverse: jax.Array) -> jax.Array:
    """Rows [n, F] by index [...] -> [..., F]; inverse [n, m]: their places.

    Out of range it takes some row: what becomes of places without one is not looked at.
    """
    return x.at[index].get(mode="clip")


def _take_forward(x, index, inverse):
    return _take(x, index, inverse), inverse


def _take_backward(inverse, dout):
    return _collect(dout, inverse), None, None


_take.defvjp(_take_forward, _take_backward)


def _collect(dplaces: jax.Array, places: jax.Array) -> jax.Array:
    """The sum of each row's places: [..., F] by places [rows, m] -> [rows, F]."""
    flat = dplaces.reshape(-1, dplaces.shape[-1])
    found = flat.at[places].get(mode="fill", fill_value=0)
    return found.astype(jnp.float32).sum(axis=1).astype(flat.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(geglu: bool, interpret: bool, x: jax.Array, weight: Weight, route: Route) -> jax.Array:
    return expert_matmul.matmul(x, route.blocks, weight, geglu=geglu, interpret=interpret)


def _product_forward(geglu: bool, interpret: bool, *args):
    # With symbolic_zeros, every array comes with whether it is differentiated.
    x, weight, route = jax.tree.map(lambda a: a.value, args, is_leaf=_is_primal)
    wanted = args[1].values.perturbed and weight.kind == "float"
    return _product(geglu, interpret, x, weight, route), (x, weight, route, wanted)


def _is_primal(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)


def _product_backward(geglu: bool, interpret: bool, residuals, dout: jax.Array):
    x, weight, (blocks, places), wanted = residuals
    if geglu:  # gates and ups anew: the forward pass does not keep them
        found = expert_matmul.matmul(x, blocks, weight, interpret=interpret)
        [dout] = jax.vjp(_geglu, found)[1](dout)
    rows = dout.reshape(-1, dout.shape[-1])
    own = blocks._replace(index=_own(blocks.index, x.shape[0]))
    dx = _collect(expert_matmul.matmul_transposed(rows, own, weight, interpret=interpret), places)
    dvalues = _kernel_gradient(x, dout, weight.values, blocks) if wanted else None
    return dx, Weight(dvalues), None


_product.defvjp(_product_forward, _product_backward, symbolic_zeros=True)


def _kernel_gradient(x: jax.Array, dy: jax.Array, kernel: jax.Array, blocks: Blocks) -> jax.Array:
    """[E, in, out]: for each expert the sum of x^T dy over its blocks, one after another."""

    def add(i, total):
        rows = x.at[blocks.index[i]].get(mode="fill", fill_value=0)
        part = jnp.matmul(rows.T, dy[i], preferred_element_type=jnp.float32)
        return total.at[blocks.expert[i]].add(part.astype(total.dtype))

    # Zeros that XLA does not know: it would make those of all layers before any of them begins.
    zeros = jnp.full_like(kernel, blocks.used < 0)
    return jax.lax.fori_loop(0, blocks.used, add, zeros)
