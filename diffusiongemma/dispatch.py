"""Tokens to experts and back: grouping into blocks of one expert each, and the loop over them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


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
    num_blocks = -(-rows // block) + min(num_experts, rows)  # a partial block an expert at most
    row = jnp.arange(rows, dtype=jnp.int32)
    # One array of keys sorts several times as fast on a CPU as pairs do.
    order = jnp.sort(expert_ids * rows + row) % rows
    sizes = jnp.sum(expert_ids[:, None] == jnp.arange(num_experts), axis=0, dtype=jnp.int32)
    padded = -(-sizes // block) * block
    # A sorted row moves on by the padding of the experts before its own.
    shift = (jnp.cumsum(padded) - padded) - (jnp.cumsum(sizes) - sizes)
    sorted_place = row + shift[expert_ids[order]]
    source = jnp.full((num_blocks * block,), rows, jnp.int32).at[sorted_place].set(order)
    place = jnp.zeros((rows,), jnp.int32).at[order].set(sorted_place)
    ends = jnp.cumsum(padded // block, dtype=jnp.int32)
    expert = jnp.sum(jnp.arange(num_blocks)[:, None] >= ends, axis=1, dtype=jnp.int32)
    expert = jnp.minimum(expert, num_experts - 1)
    return Groups(source.reshape(num_blocks, block), expert, place, ends[-1])


# A function of one expert: ([block, D], its parameters) -> [block, F].
ExpertFunction = Callable[[jax.Array, Any], jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def over_blocks(
    function: ExpertFunction, top_k: int, x: jax.Array, params: Any, groups: Groups
) -> jax.Array:
    """function(rows, an expert's parameters) for all chosen experts of every token, block by block.

    Only blocks with rows in them are computed, and each expert's parameters are read where they
    lie. The backward pass computes the blocks anew, and makes gradients only of those parameters
    that are differentiated.

    Args:
      function: what each expert does.
      top_k: experts a token; row r of the groups is choice r % top_k of token r // top_k.
      x: [N, D].
      params: arrays with a leading axis of E experts.
      groups: of N * top_k rows.

    Returns:
      [N * top_k, F].
    """
    block = jax.eval_shape(function, *_block(x, params, groups, top_k, 0))
    out = jnp.zeros((groups.source.shape[0], *block.shape), block.dtype)

    def step(i, out):
        return out.at[i].set(function(*_block(x, params, groups, top_k, i)))

    out = jax.lax.fori_loop(0, groups.used, step, out)
    return out.reshape(-1, out.shape[-1])[groups.place]


def _block(x: jax.Array, params: Any, groups: Groups, top_k: int, i: jax.Array | int):
    """The rows of block i, zeros where there is none, and its expert's parameters."""
    rows = x.at[groups.source[i] // top_k].get(mode="fill", fill_value=0)
    return rows, jax.tree.map(lambda p: p[groups.expert[i]], params)


def _forward(function: ExpertFunction, top_k: int, *args):
    # With symbolic_zeros, every array comes with whether it is differentiated.
    x, params, groups = jax.tree.map(lambda a: a.value, args, is_leaf=_is_primal)
    wanted = jax.tree.leaves(jax.tree.map(lambda a: a.perturbed, args[1], is_leaf=_is_primal))
    return over_blocks(function, top_k, x, params, groups), (x, params, groups, wanted)


def _is_primal(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)


def _backward(function: ExpertFunction, top_k: int, residuals, dout: jax.Array):
    x, params, groups, wanted = residuals
    leaves, tree = jax.tree.flatten(params)
    dx = jnp.zeros((*groups.source.shape, x.shape[-1]), x.dtype)
    dparams = [jnp.zeros_like(p) if w else None for p, w in zip(leaves, wanted, strict=True)]

    def step(i, gradients):
        dx, dparams = gradients
        expert = groups.expert[i]
        dy = dout.at[groups.source[i]].get(mode="fill", fill_value=0)
        drows, found = jax.vjp(function, *_block(x, params, groups, top_k, i))[1](dy)
        added = [
            None if total is None else total.at[expert].add(d)
            for total, d in zip(dparams, jax.tree.leaves(found), strict=True)
        ]
        return dx.at[i].set(drows), added

    dx, dparams = jax.lax.fori_loop(0, groups.used, step, (dx, dparams))
    dx = dx.reshape(-1, x.shape[-1])[groups.place]
    return dx.reshape(x.shape[0], top_k, -1).sum(axis=1), jax.tree.unflatten(tree, dparams), None


over_blocks.defvjp(_forward, _backward, symbolic_zeros=True)
