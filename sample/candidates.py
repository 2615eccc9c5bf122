"""The most probable tokens of every position at a step, for those who look at the steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffusiongemma.head import CHUNK_BYTES, KERNEL_CHUNK_BYTES
from sample.step import Candidates, Proposal


def with_candidates(proposal: Proposal) -> Proposal:
    """The proposal with the config.candidates most probable tokens of each position.

    The logits are computed once more, a few positions at a time, so that they are never whole.

    Raises:
      ValueError: the model does not tell its hidden states, or its vocabulary is smaller.
    """
    count, vocab_size = proposal.config.candidates, proposal.model.config.vocab_size
    if proposal.states is None:
        raise ValueError("candidates need a model that tells its hidden states")
    if count > vocab_size:
        raise ValueError(f"candidates={count} is more than the vocabulary of {vocab_size} tokens")

    def read(states: jax.Array) -> Candidates:
        return most_probable(proposal.model.to_logits(states) / proposal.temperature, count)

    return proposal._replace(candidates=by_chunks(read, proposal.states, vocab_size))


def most_probable(logits: jax.Array, count: int) -> Candidates:
    """The `count` most probable tokens: logits [B, C, V] float32 at the step's temperature.

    Of equal logits, the smaller id comes first. Tokens of probability 0 are left out, as -1.
    """
    top, ids = jax.lax.top_k(logits, count)
    probabilities = jnp.exp(top - jax.nn.logsumexp(logits, axis=-1, keepdims=True))
    return Candidates(jnp.where(probabilities > 0, ids, -1), probabilities)


def by_chunks(read: Callable[[Any], Any], arrays: Any, vocab_size: int) -> Any:
    """Calls `read` for few positions at a time: a pytree of [B, C, ...] -> that of its results."""
    rows, size = jax.tree.leaves(arrays)[0].shape[:2]
    limit = KERNEL_CHUNK_BYTES if jax.default_backend() == "gpu" else CHUNK_BYTES
    fit = max(1, limit // (4 * rows * vocab_size))
    chunk = max(n for n in range(1, size + 1) if size % n == 0 and n <= fit)
    if chunk == size:
        return read(arrays)

    def cut(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(rows, -1, chunk, *x.shape[2:]), 1, 0)

    def joined(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, 0, 1).reshape(rows, size, *x.shape[3:])

    return jax.tree.map(joined, jax.lax.map(read, jax.tree.map(cut, arrays)))
