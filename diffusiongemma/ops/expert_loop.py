"""Tokens to experts and back: grouping into blocks of one expert each, and the loop over them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.layers import sum_last


class Groups(NamedTuple):
    """Rows sorted by expert, every expert's rows padded to whole blocks of `block` rows.

    Attributes:
      source: [blocks, block] int32, the row that fills each place; the number of rows: none does.
      expert: [blocks] int32, each block's expert.
      place: [rows] int32, where each row went, in blocks * block.
      used: [] int32, blocks with a row in them; they come first.
    """

    source: jax.Array
    expert: jax.Array
    place: jax.Array
    used: jax.Array


def group_rows(expert_ids: jax.Array, num_experts: int, block: int) -> Groups:
    """Sorts rows by expert into blocks that belong to one expert each; no row is ever dropped.

    Args:
      expert_ids: [rows] int32 in 0..num_experts - 1; rows * num_experts < 2^31.
      num_experts: E.
      block: rows in a block.
    """
    rows = expert_ids.shape[0]
    blocks = num_blocks(rows, num_experts, block)
    row = jnp.arange(rows, dtype=jnp.int32)
    # One array of keys sorts several times as fast on a CPU as pairs do.
    order = jnp.sort(expert_ids * rows + row) % rows
    sizes = jnp.sum(expert_ids[:, None] == jnp.arange(num_experts), axis=0, dtype=jnp.int32)
    padded = -(-sizes // block) * block
    # A sorted row moves on by the padding of the experts before its own.
    shift = (jnp.cumsum(padded) - padded) - (jnp.cumsum(sizes) - sizes)
    sorted_place = row + shift[expert_ids[order]]
    source = jnp.full((blocks * block,), rows, jnp.int32).at[sorted_place].set(order)
    place = jnp.zeros((rows,), jnp.int32).at[order].set(sorted_place)
    ends = jnp.cumsum(padded // block, dtype=jnp.int32)
    expert = jnp.sum(jnp.arange(blocks)[:, None] >= ends, axis=1, dtype=jnp.int32)
    expert = jnp.minimum(expert, num_experts - 1)
    return Groups(source.reshape(blocks, block), expert, place, ends[-1])


def num_blocks(rows: int, num_experts: int, block: int) -> int:
    """As many as there can be: an expert has one at most that is not full."""
    return -(-rows // block) + min(num_experts, rows)


# What an expert does: ([block, D], its parameters) -> [block, F].
ExpertFunction = Callable[[jax.Array, Any], jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def mixture(
    function: ExpertFunction, x: jax.Array, weights: jax.Array, params: Any, groups: Groups
) -> jax.Array:
    """Each token's weighted sum of function(token, an expert's parameters), block by block.

    Only blocks with rows in them are computed, with a copy of one expert's parameters at a time in
    memory. The backward pass computes the blocks anew, and makes gradients only of those parameters
    that are differentiated.

    Args:
      function: what each expert does.
      x: [N, D].
      weights: [N, top_k] float32.
      params: arrays with a leading axis of E experts.
      groups: of the N * top_k choices, token by token.

    Returns:
      [N, F] float32.
    """
    like = jax.eval_shape(function, *_block(x, params, groups, 0)[1:])
    out = jnp.zeros((x.shape[0], like.shape[-1]), jnp.float32)
    weights = weights.reshape(-1)

    def step(i, out):
        token, *block = _block(x, params, groups, i)
        y = function(*block).astype(jnp.float32) * _rows(weights, groups.source[i])[:, None]
        return out.at[token].add(y, mode="drop")

    return jax.lax.fori_loop(0, groups.used, step, out)


def _block(x: jax.Array, params: Any, groups: Groups, i: jax.Array | int):
    """Block i: its tokens' numbers (N for none), their rows (zeros), its expert's parameters."""
    token = groups.source[i] // (groups.place.shape[0] // x.shape[0])
    return token, _rows(x, token), jax.tree.map(lambda p: p[groups.expert[i]], params)


def _rows(x: jax.Array, index: jax.Array) -> jax.Array:
    return x.at[index].get(mode="fill", fill_value=0)


def _forward(function: ExpertFunction, *args):
    # With symbolic_zeros, every array comes with whether it is differentiated.
    x, weights, params, groups = jax.tree.map(lambda a: a.value, args, is_leaf=_is_primal)
    wanted = jax.tree.leaves(jax.tree.map(lambda a: a.perturbed, args[2], is_leaf=_is_primal))
    return mixture(function, x, weights, params, groups), (x, weights, params, groups, wanted)


def _is_primal(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)


def _backward(function: ExpertFunction, residuals, dout: jax.Array):
    x, weights, params, groups, wanted = residuals
    leaves, tree = jax.tree.flatten(params)
    flat = weights.reshape(-1)

    def step(i, gradients):
        dx, dweights, dparams = gradients
        token, *block = _block(x, params, groups, i)
        y, pullback = jax.vjp(function, *block)
        dy, source, expert = _rows(dout, token), groups.source[i], groups.expert[i]
        drows, dblock = pullback((dy * _rows(flat, source)[:, None]).astype(y.dtype))
        return (
            dx.at[token].add(drows.astype(jnp.float32), mode="drop"),
            dweights.at[source].set(sum_last(dy * y)[:, 0], mode="drop"),
            [
                None if total is None else total.at[expert].add(d)
                for total, d in zip(dparams, jax.tree.leaves(dblock), strict=True)
            ],
        )

    zeros = (
        jnp.zeros(x.shape, jnp.float32),
        jnp.zeros_like(flat),
        [jnp.zeros_like(p) if w else None for p, w in zip(leaves, wanted, strict=True)],
    )
    dx, dweights, dparams = jax.lax.fori_loop(0, groups.used, step, zeros)
    dparams = jax.tree.unflatten(tree, dparams)
    return dx.astype(x.dtype), dweights.reshape(weights.shape), dparams, None


mixture.defvjp(_forward, _backward, symbolic_zeros=True)
