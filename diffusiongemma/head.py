"""The tied output head, read in chunks of the vocabulary: all that a denoising step needs of it.

One pass over the embedding carries the softcap, the log-sum-exp, the entropy, the argmax, a draw
and the soft embedding: logits [B, C, V] are never whole in memory, and each part of the embedding
is used for both of its products before the next one.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.backend import Backend, takes_kernels
from diffusiongemma.kernels import head_matmul
from diffusiongemma.layers import sum_last
from diffusiongemma.ops.quantized import Quantized, matmul

# A draw chooses a block of so many tokens first, then one of them: noise for every block is enough.
BLOCK = 128
# Of a chunk's float32 logits; by kernels, on a GPU, where each chunk costs some twenty of them.
CHUNK_BYTES, KERNEL_BYTES = 16 << 20, 64 << 20
LOWEST = -1e30  # below every logit, and finite: 0 * LOWEST is 0


class DrawNoise(NamedTuple):
    """Random numbers for one draw at every position.

    Attributes:
      gumbel: [B, C, V / block_size(V)] float32, standard Gumbel.
      uniform: [B, C] float32 in [0, 1).
    """

    gumbel: jax.Array
    uniform: jax.Array


class Prediction(NamedTuple):
    """What a denoising step takes from softmax(logits / temperature) = p.

    Attributes:
      best: [B, C] int32, the most probable token, the first of several.
      drawn: [B, C] int32, a draw from p; None without noise.
      entropy: [B, C] float32, of p in nats.
      soft: [B, C, D], p @ E * sqrt(D).
      states: [B, C, D], the hidden states that the logits come from, for DiffusionGemma.to_logits;
        None: not kept.
    """

    best: jax.Array
    drawn: jax.Array | None
    entropy: jax.Array
    soft: jax.Array
    states: jax.Array | None = None


def block_size(vocab_size: int) -> int:
    """Tokens of a draw's block."""
    return math.gcd(vocab_size, BLOCK)


def argmax(x: jax.Array) -> jax.Array:
    """Index of the largest of the last axis, the first if several: [..., V] -> [...] int32."""
    # Two plain reductions vectorise on CPU; jnp.argmax does not, and takes 2.5 times as long.
    index = jnp.arange(x.shape[-1], dtype=jnp.int32)
    largest = x == jnp.max(x, axis=-1, keepdims=True)
    return jnp.min(jnp.where(largest, index, x.shape[-1]), axis=-1)


def predict(
    x: jax.Array,
    table: jax.Array | Quantized,
    softcap: float,
    temperature: jax.Array | float,
    noise: DrawNoise | None = None,
    num_chunks: int | None = None,
    backend: Backend | None = None,
) -> Prediction:
    """Reads the head for hidden states.

    A draw is exact: a block by Gumbel-max over the blocks' probabilities, a token in it by the
    inverse of its distribution function. The number of chunks changes nothing but rounding.

    Args:
      x: [B, C, D], after the final norm.
      table: [V, D], the embedding E, plain or quantized.
      softcap: logits are softcap * tanh(x @ E^T / softcap), float32.
      temperature: tau.
      noise: of the draw; None for none.
      num_chunks: parts of the vocabulary; None chooses by size. Divides V / block_size(V).
      backend: how the products are computed; None: the platform's way (backend.py).
    """
    vocab_size, width = table.shape
    block, num_rows = block_size(vocab_size), x.shape[0] * x.shape[1]
    values, scales = table if isinstance(table, Quantized) else (table, None)
    kernels = takes_kernels(backend, head_matmul.supports(x, values))
    limit = KERNEL_BYTES if kernels else CHUNK_BYTES
    num_chunks = num_chunks or _num_chunks(num_rows, vocab_size, block, limit)
    size = vocab_size // num_chunks

    def product(y: jax.Array, rows, number: jax.Array, transpose: bool) -> jax.Array:
        """y times the rows of a chunk, or transposed; with kernels, `rows` are their scales."""
        if not kernels:
            return matmul(y.astype(x.dtype), rows, transpose=transpose, dtype=jnp.float32)
        scale = 1.0 if rows is None else rows[:, 0]
        y = (y if transpose else y * scale).astype(x.dtype)
        y = head_matmul.product(y, values, number, size, transpose, backend == "interpret")
        return y * scale if transpose else y

    def read(state: _State, chunk) -> tuple[_State, None]:
        rows, gumbel, number = chunk
        offset = number * size
        logits = product(x, rows, number, transpose=True)
        logits = softcap * jnp.tanh(logits / softcap) / temperature
        here = jnp.max(logits, axis=-1)
        top = jnp.maximum(state.top, here)
        shrink = jnp.exp(state.top - top)
        weights = jnp.exp(logits - top[..., None])
        spread = sum_last(weights * (logits - top[..., None]))[..., 0]
        score, drawn = state.score, state.drawn
        if noise is not None:
            new_score, new = _draw(weights, top, gumbel, noise.uniform, block)
            drawn = jnp.where(new_score > score, new + offset, drawn)
            score = jnp.maximum(score, new_score)
        mixed = product(weights, rows, number, transpose=False)
        return _State(
            top=top,
            total=state.total * shrink + weights.sum(axis=-1),
            spread=(state.spread + state.total * (state.top - top)) * shrink + spread,
            best=jnp.where(here > state.top, argmax(logits) + offset, state.best),
            score=score,
            drawn=drawn,
            soft=state.soft * shrink[..., None] + mixed,
        ), None

    low = jnp.full(x.shape[:2], LOWEST, jnp.float32)
    none, zeros = jnp.zeros(x.shape[:2], jnp.int32), jnp.zeros(x.shape[:2], jnp.float32)
    state = _State(low, zeros, zeros, none, low, none, jnp.zeros(x.shape, jnp.float32))
    split = functools.partial(jax.tree.map, lambda a: a.reshape(num_chunks, size, a.shape[-1]))
    chunks = (
        split(scales if kernels else table),
        None if noise is None else _split(noise.gumbel, num_chunks),
        jnp.arange(num_chunks, dtype=jnp.int32),
    )
    if num_chunks == 1:
        state, _ = read(state, jax.tree.map(lambda a: a[0], chunks))
    else:
        state, _ = jax.lax.scan(read, state, chunks)
    return Prediction(
        best=state.best,
        drawn=None if noise is None else state.drawn,
        entropy=jnp.log(state.total) - state.spread / state.total,
        soft=(state.soft / state.total[..., None] * width**0.5).astype(x.dtype),
    )


class _State(NamedTuple):
    """Of the chunks so far; weights are exp(logit - top), and everything is [B, C] but soft."""

    top: jax.Array  # largest logit
    total: jax.Array  # sum of the weights
    spread: jax.Array  # sum of weight * (logit - top)
    best: jax.Array
    score: jax.Array  # of the drawn token's block: log probability, not normalised, and noise
    drawn: jax.Array
    soft: jax.Array  # [B, C, D], sum of weight * embedding


def _draw(
    weights: jax.Array, top: jax.Array, gumbel: jax.Array, uniform: jax.Array, block: int
) -> tuple[jax.Array, jax.Array]:
    """(score of the best block, the token drawn from it): [B, C] float32 and int32."""
    blocks = weights.reshape(*weights.shape[:-1], -1, block)
    scores = jnp.log(blocks.sum(axis=-1)) + top[..., None] + gumbel
    chosen = argmax(scores)[..., None]
    own = jnp.take_along_axis(blocks, chosen[..., None], axis=-2)[..., 0, :]
    below = jnp.cumsum(own, axis=-1)
    # In (0, total]: never a token of weight 0.
    target = (1 - uniform[..., None]) * below[..., -1:]
    token = jnp.sum(below < target, axis=-1, dtype=jnp.int32)
    return jnp.max(scores, axis=-1), chosen[..., 0] * block + token


def _num_chunks(rows: int, vocab_size: int, block: int, limit: int) -> int:
    """The fewest chunks of whole blocks, equal in size, whose logits keep to a limit in bytes."""
    blocks = vocab_size // block
    fit = max(limit // (4 * rows * block), 1)
    return next(n for n in range(-(-blocks // fit), blocks + 1) if blocks % n == 0)


def _split(x: jax.Array, parts: int) -> jax.Array:
    """[B, C, n] -> [parts, B, C, n / parts]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], parts, -1), -2, 0)
