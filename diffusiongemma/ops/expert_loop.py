"""The mixture of experts as a loop over blocks of rows, the way of CPUs.

Rows are sorted by expert into blocks, so that each block belongs to one expert. The loop then
computes one block after another with that expert's weights. The experts themselves (their
parameters and what they compute) are defined here too, because the GPU's way in
kernels/expert_mixture.py uses the same types.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.ops.primals import split_primals
from diffusiongemma.ops.quantized import Quantized, matmul
from diffusiongemma.ops.reductions import sum_last


class Expert(NamedTuple):
    """A linear map for each of E experts. One expert alone has the same fields without the axis E.

    Attributes:
      kernel: [E, in, out], plain or quantized.
      lora_a: [E, in, r] float32, the first LoRA factor; None without LoRA.
      lora_b: [E, r, out] float32, the second LoRA factor, multiplied by LoRA's scale already.
    """

    kernel: jax.Array | Quantized
    lora_a: jax.Array | None = None
    lora_b: jax.Array | None = None


class Experts(NamedTuple):
    """The maps of a mixture's experts.

    Attributes:
      gate_up: D -> 2 f, the gates and then the ups.
      down: f -> D.
    """

    gate_up: Expert
    down: Expert


def expert_linear(x: jax.Array, params: Expert) -> jax.Array:
    """One expert's linear map, LoRA included: x [rows, in] -> [rows, out]."""
    y = matmul(x, params.kernel)
    if params.lora_a is not None:
        y = y + (x.astype(jnp.float32) @ params.lora_a @ params.lora_b).astype(y.dtype)
    return y


def geglu(gate_up: jax.Array) -> jax.Array:
    """gelu_tanh(gate) * up: [..., 2 f], the gates and then the ups -> [..., f]."""
    gate, up = jnp.split(gate_up, 2, axis=-1)
    return jax.nn.gelu(gate, approximate=True) * up


def expert_mlp(x: jax.Array, params: Experts) -> jax.Array:
    """One expert's GeGLU MLP: x [rows, D] -> [rows, D]."""
    return expert_linear(geglu(expert_linear(x, params.gate_up)), params.down)


class Blocks(NamedTuple):
    """Rows sorted by expert into blocks, so that each block belongs to one expert.

    Places are numbered through all blocks, from 0 to blocks * block - 1.

    Attributes:
      row: [blocks, block] int32, the row in each place. A number beyond the last row marks an
        empty place.
      expert: [blocks] int32, each block's expert.
      used: [] int32, the number of blocks that have a row in them; these come first.
      places: [rows, m] int32, the places of each row. A number beyond the last place stands for
        no place.
    """

    row: jax.Array
    expert: jax.Array
    used: jax.Array
    places: jax.Array


def group_rows(expert_ids: jax.Array, num_experts: int, block: int) -> Blocks:
    """Sorts rows by expert into blocks. No row is ever dropped.

    Args:
      expert_ids: [rows] int32 in 0..num_experts - 1; rows * num_experts must be below 2^31.
      num_experts: E.
      block: rows in a block.

    Returns:
      the blocks; each row has one place.
    """
    rows = expert_ids.shape[0]
    blocks = num_blocks(rows, num_experts, block)
    row = jnp.arange(rows, dtype=jnp.int32)
    # A CPU sorts one array of keys several times as fast as it sorts pairs.
    order = jnp.sort(expert_ids * rows + row) % rows
    sizes = jnp.sum(expert_ids[:, None] == jnp.arange(num_experts), axis=0, dtype=jnp.int32)
    padded = -(-sizes // block) * block
    # A sorted row moves on by the padding of the experts before its own.
    shift = (jnp.cumsum(padded) - padded) - (jnp.cumsum(sizes) - sizes)
    sorted_place = row + shift[expert_ids[order]]
    row_in_place = jnp.full((blocks * block,), rows, jnp.int32).at[sorted_place].set(order)
    place = jnp.zeros((rows,), jnp.int32).at[order].set(sorted_place)
    ends = jnp.cumsum(padded // block, dtype=jnp.int32)
    expert = jnp.sum(jnp.arange(blocks)[:, None] >= ends, axis=1, dtype=jnp.int32)
    expert = jnp.minimum(expert, num_experts - 1)
    return Blocks(row_in_place.reshape(blocks, block), expert, ends[-1], place[:, None])


def num_blocks(rows: int, num_experts: int, block: int) -> int:
    """The most blocks that there can be: each expert has at most one that is not full."""
    return -(-rows // block) + min(num_experts, rows)


def block_size(rows: int, num_experts: int) -> int:
    """Rows in a block of the loop: an expert's share, as a power of two from 8 to 64."""
    share = max(rows // num_experts, 1)
    return min(max(1 << (share - 1).bit_length(), 8), 64)


@jax.custom_vjp
def mixture(x: jax.Array, weights: jax.Array, params: Experts, blocks: Blocks) -> jax.Array:
    """Each token's weighted sum of its experts' MLPs, computed block by block.

    Only blocks with rows in them are computed, with a copy of one expert's parameters at a time in
    memory. The backward pass computes the blocks anew. It makes gradients only for those parameters
    that are differentiated.

    Args:
      x: [N, D].
      weights: [N, top_k] float32.
      params: the maps of all E experts.
      blocks: of the N * top_k choices (the rows), token by token.

    Returns:
      [N, D] float32.
    """
    like = jax.eval_shape(expert_mlp, *_block(x, params, blocks, 0)[1:])
    out = jnp.zeros((x.shape[0], like.shape[-1]), jnp.float32)
    weights = weights.reshape(-1)

    def step(i: jax.Array, out: jax.Array) -> jax.Array:
        token, *block = _block(x, params, blocks, i)
        y = expert_mlp(*block).astype(jnp.float32) * _rows(weights, blocks.row[i])[:, None]
        return out.at[token].add(y, mode="drop")

    return jax.lax.fori_loop(0, blocks.used, step, out)


def _block(
    x: jax.Array, params: Experts, blocks: Blocks, i: jax.Array | int
) -> tuple[jax.Array, jax.Array, Experts]:
    """Block i: its tokens' numbers, their rows of x, and its expert's parameters.

    An empty place has the token number N and a row of zeros.
    """
    token = blocks.row[i] // (blocks.places.shape[0] // x.shape[0])
    return token, _rows(x, token), jax.tree.map(lambda p: p[blocks.expert[i]], params)


def _rows(x: jax.Array, index: jax.Array) -> jax.Array:
    return x.at[index].get(mode="fill", fill_value=0)


Residuals = tuple[jax.Array, jax.Array, Experts, Blocks, list[bool]]


def _forward(*args) -> tuple[jax.Array, Residuals]:
    values, differentiated = split_primals(args)
    return mixture(*values), (*values, jax.tree.leaves(differentiated[2]))


def _backward(residuals: Residuals, dout: jax.Array) -> tuple[jax.Array, jax.Array, Experts, None]:
    x, weights, params, blocks, differentiated = residuals
    leaves, tree = jax.tree.flatten(params)
    flat = weights.reshape(-1)

    def step(i: jax.Array, gradients: tuple) -> tuple:
        dx, dweights, dparams = gradients
        token, *block = _block(x, params, blocks, i)
        y, pullback = jax.vjp(expert_mlp, *block)
        dy, row, expert = _rows(dout, token), blocks.row[i], blocks.expert[i]
        drows, dblock = pullback((dy * _rows(flat, row)[:, None]).astype(y.dtype))
        return (
            dx.at[token].add(drows.astype(jnp.float32), mode="drop"),
            dweights.at[row].set(sum_last(dy * y)[:, 0], mode="drop"),
            [
                None if total is None else total.at[expert].add(d)
                for total, d in zip(dparams, jax.tree.leaves(dblock), strict=True)
            ],
        )

    zeros = (
        jnp.zeros(x.shape, jnp.float32),
        jnp.zeros_like(flat),
        [jnp.zeros_like(p) if d else None for p, d in zip(leaves, differentiated, strict=True)],
    )
    dx, dweights, dparams = jax.lax.fori_loop(0, blocks.used, step, zeros)
    dparams = jax.tree.unflatten(tree, dparams)
    return dx.astype(x.dtype), dweights.reshape(weights.shape), dparams, None


mixture.defvjp(_forward, _backward, symbolic_zeros=True)
