"""The mixture of experts by Pallas kernels, with gradients: the way of GPUs.

Rows are sorted into blocks of one expert each (group_rows.py), and expert_matmul.py multiplies the
blocks with their experts' weights. Every sum over rows is written as a gather: from places to rows
and from rows to places, forward and backward. Scatters would add in a different order each time.
"""

import functools

import jax
import jax.numpy as jnp

from diffusiongemma.kernels import expert_matmul
from diffusiongemma.ops.expert_loop import Blocks, Expert, Experts, geglu
from diffusiongemma.ops.primals import split_primals
from diffusiongemma.ops.quantized import Quantized


def supports(params: Experts) -> bool:
    """Whether there are kernels for the shapes of these experts."""
    return all(expert_matmul.supports(expert.kernel) for expert in params)


def block_size(rows: int, num_experts: int) -> int:
    """Rows in a block: twice an expert's share, as a power of two from 16 to 128."""
    share = max(2 * rows // num_experts, 1)
    return min(max(1 << (share - 1).bit_length(), 16), 128)


def mixture(
    x: jax.Array,
    weights: jax.Array,
    params: Experts,
    blocks: Blocks,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Each token's weighted sum of its experts' GeGLU MLPs; expert_loop.mixture up to rounding.

    Gradients of kernels are made only if they are wanted, and never for quantized ones.

    Args:
      x: [N, D], float32 or bfloat16.
      weights: [N, top_k] float32.
      params: the maps of all E experts, which `supports` accepts.
      blocks: of the N * top_k choices (the rows), token by token.
      interpret: True runs the kernels as plain JAX, on any platform.

    Returns:
      [N, D] float32.
    """
    gate_up, down = params
    num_places, num_choices = blocks.row.size, blocks.places.size
    places = blocks.places.reshape(weights.shape)
    tokens = blocks._replace(row=blocks.row // weights.shape[1], places=places)
    own = _own(blocks.row, num_choices)
    in_place = blocks._replace(row=own, places=own.reshape(num_places, 1))

    if gate_up.lora_a is None:
        hidden = _product(True, interpret, x, gate_up.kernel, tokens)
    else:
        hidden = geglu(_linear(gate_up, x, tokens, interpret))
    out = _linear(down, hidden.reshape(num_places, -1), in_place, interpret)
    chosen = _take(out.reshape(num_places, -1), places, blocks.row.reshape(num_places, 1))
    return jnp.sum(chosen.astype(jnp.float32) * weights[..., None], axis=1)


def _own(row: jax.Array, num_rows: int) -> jax.Array:
    """[blocks, block]: each place's own number, or the number of places where it is empty."""
    places = jnp.arange(row.size, dtype=jnp.int32).reshape(row.shape)
    return jnp.where(row < num_rows, places, row.size)


def _linear(params: Expert, x: jax.Array, blocks: Blocks, interpret: bool) -> jax.Array:
    """x [rows, in] -> [blocks, block, out] by the experts of the blocks, LoRA included."""
    y = _product(False, interpret, x, params.kernel, blocks)
    if params.lora_a is None:
        return y
    a, b = (
        factor.at[blocks.expert].get(indices_are_sorted=True)
        for factor in (params.lora_a, params.lora_b)
    )
    rows = _take(x, blocks.row, blocks.places).astype(jnp.float32)
    return y + (rows @ a @ b).astype(y.dtype)


@jax.custom_vjp
def _take(x: jax.Array, index: jax.Array, inverse: jax.Array) -> jax.Array:
    """Rows of x [n, F] by index [...] -> [..., F]; inverse [n, m] are the places of each row.

    An index out of range takes some row. Nothing reads what an empty place holds.
    """
    return x.at[index].get(mode="clip")


def _take_forward(
    x: jax.Array, index: jax.Array, inverse: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return _take(x, index, inverse), inverse


def _take_backward(inverse: jax.Array, dout: jax.Array) -> tuple[jax.Array, None, None]:
    return _collect(dout, inverse), None, None


_take.defvjp(_take_forward, _take_backward)


def _collect(dplaces: jax.Array, places: jax.Array) -> jax.Array:
    """The sum over each row's places: dplaces [..., F] by places [rows, m] -> [rows, F]."""
    flat = dplaces.reshape(-1, dplaces.shape[-1])
    found = flat.at[places].get(mode="fill", fill_value=0)
    return found.astype(jnp.float32).sum(axis=1).astype(flat.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(
    gated: bool, interpret: bool, x: jax.Array, weight: jax.Array | Quantized, blocks: Blocks
) -> jax.Array:
    """expert_matmul.matmul, followed by geglu if `gated`, with gradients."""
    return expert_matmul.matmul(x, blocks, weight, geglu=gated, interpret=interpret)


Residuals = tuple[jax.Array, jax.Array | Quantized, Blocks, bool]


def _product_forward(gated: bool, interpret: bool, *args) -> tuple[jax.Array, Residuals]:
    values, differentiated = split_primals(args)
    _, weight, _ = values
    wanted = not isinstance(weight, Quantized) and differentiated[1]
    return _product(gated, interpret, *values), (*values, wanted)


def _product_backward(
    gated: bool, interpret: bool, residuals: Residuals, dout: jax.Array
) -> tuple[jax.Array, jax.Array | None, None]:
    x, weight, blocks, wanted = residuals
    if gated:  # the forward pass does not keep gates and ups, so they are computed anew
        found = expert_matmul.matmul(x, blocks, weight, interpret=interpret)
        [dout] = jax.vjp(geglu, found)[1](dout)
    rows = dout.reshape(-1, dout.shape[-1])
    own = blocks._replace(row=_own(blocks.row, x.shape[0]))
    drows = expert_matmul.matmul_transposed(rows, own, weight, interpret=interpret)
    dx = _collect(drows, blocks.places)
    return dx, _kernel_gradient(x, dout, weight, blocks) if wanted else None, None


_product.defvjp(_product_forward, _product_backward, symbolic_zeros=True)


def _kernel_gradient(x: jax.Array, dy: jax.Array, kernel: jax.Array, blocks: Blocks) -> jax.Array:
    """[E, in, out]: for each expert the sum of x^T dy over its blocks, one after another."""

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        rows = x.at[blocks.row[i]].get(mode="fill", fill_value=0)
        part = jnp.matmul(rows.T, dy[i], preferred_element_type=jnp.float32)
        return total.at[blocks.expert[i]].add(part.astype(total.dtype))

    # Zeros that XLA does not know as such: else it would make the zeros of all layers in advance.
    zeros = jnp.full_like(kernel, blocks.used < 0)
    return jax.lax.fori_loop(0, blocks.used, add, zeros)
