"""The output head of a denoising step: from hidden states to what the sampler needs.

The head is tied to the embedding and read in chunks of the vocabulary. One pass computes the
softcap, the softmax, the entropy, the most probable token, a draw and the soft embedding. So the
logits [B, C, V] are never whole in memory, and each chunk of the embedding serves both of its
products before the next one is read. This is the last file of the network; sample/step.py is the
sampler's step that uses it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.backend import Backend, takes_kernels
from diffusiongemma.ops.quantized import Quantized, matmul
from diffusiongemma.ops.reductions import argmax, sum_last

# A draw chooses a block of this many tokens first and then one of them, so that it needs noise for
# the blocks only.
BLOCK = 128
# Byte limit for one chunk of float32 logits. Larger on GPUs, where each chunk launches about 20
# kernels.
CHUNK_BYTES, KERNEL_CHUNK_BYTES = 16 << 20, 64 << 20
LOWEST_LOGIT = -1e30  # below every logit, and finite: 0 * LOWEST_LOGIT is 0


class DrawNoise(NamedTuple):
    """Random numbers for one draw at every position.

    Attributes:
      gumbel: [B, C, V / block_size(V)] float32, standard Gumbel.
      uniform: [B, C] float32 in [0, 1).
    """

    gumbel: jax.Array
    uniform: jax.Array


class Prediction(NamedTuple):
    """What a denoising step takes from the distribution p = softmax(logits / temperature).

    Attributes:
      best: [B, C] int32, the most probable token, the first one if several are equal.
      drawn: [B, C] int32, a draw from p; None without noise.
      entropy: [B, C] float32, the entropy of p in nats.
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
    """Tokens in a block of a draw: the largest power of two up to BLOCK that divides V."""
    return math.gcd(vocab_size, BLOCK)


def predict(
    x: jax.Array,
    table: jax.Array | Quantized,
    softcap: float,
    temperature: jax.Array | float,
    noise: DrawNoise | None = None,
    *,
    num_chunks: int | None = None,
    backend: Backend | None = None,
) -> Prediction:
    """Reads the head for hidden states.

    A draw is exact: Gumbel-max over the blocks' probabilities chooses a block, and the inverse of
    the distribution function chooses a token in it. The number of chunks changes rounding alone.

    Args:
      x: [B, C, D], after the final norm.
      table: [V, D], the embedding E, plain or quantized.
      softcap: logits are softcap * tanh(x @ E^T / softcap), in float32.
      temperature: tau, divides the logits.
      noise: random numbers of the draw; None for no draw.
      num_chunks: number of chunks of the vocabulary, a divisor of V / block_size(V); None chooses
        it by size.
      backend: how the products are computed; None chooses by platform (backend.py).
    """
    vocab_size, width = table.shape
    block = block_size(vocab_size)
    kernel = _kernel_product(x, table, backend)
    if num_chunks is None:
        limit = KERNEL_CHUNK_BYTES if kernel else CHUNK_BYTES
        num_chunks = _num_chunks(x.shape[0] * x.shape[1], vocab_size, block, limit)
    embedding = _ChunkedEmbedding(table, num_chunks, x.dtype, kernel)

    def read(state: _State, chunk: _Chunk) -> tuple[_State, None]:
        offset = chunk.number * embedding.size
        logits = embedding.product(x, chunk, transpose=True)
        logits = softcap * jnp.tanh(logits / softcap) / temperature
        here = jnp.max(logits, axis=-1)
        top = jnp.maximum(state.top, here)
        shrink = jnp.exp(state.top - top)
        weights = jnp.exp(logits - top[..., None])
        spread = sum_last(weights * (logits - top[..., None]))[..., 0]
        score, drawn = state.score, state.drawn
        if noise is not None:
            new_score, new = draw(weights, top, DrawNoise(chunk.gumbel, noise.uniform), block)
            drawn = jnp.where(new_score > score, new + offset, drawn)
            score = jnp.maximum(score, new_score)
        mixed = embedding.product(weights, chunk, transpose=False)
        return _State(
            top=top,
            total=state.total * shrink + weights.sum(axis=-1),
            spread=(state.spread + state.total * (state.top - top)) * shrink + spread,
            best=jnp.where(here > state.top, argmax(logits) + offset, state.best),
            score=score,
            drawn=drawn,
            soft=state.soft * shrink[..., None] + mixed,
        ), None

    low = jnp.full(x.shape[:2], LOWEST_LOGIT, jnp.float32)
    none, zeros = jnp.zeros(x.shape[:2], jnp.int32), jnp.zeros(x.shape[:2], jnp.float32)
    state = _State(low, zeros, zeros, none, low, none, jnp.zeros(x.shape, jnp.float32))
    chunks = embedding.chunks(None if noise is None else noise.gumbel)
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
    """What is known after the chunks that were read so far.

    The weight of a token is exp(its logit - top).

    Attributes:
      top: [B, C] float32, the largest logit.
      total: [B, C] float32, the sum of the weights.
      spread: [B, C] float32, the sum of weight * (logit - top).
      best: [B, C] int32, the token of the largest logit.
      score: [B, C] float32, for the drawn token's block: its log probability, not normalised, plus
        its noise.
      drawn: [B, C] int32, the drawn token.
      soft: [B, C, D] float32, the sum of weight * embedding.
    """

    top: jax.Array
    total: jax.Array
    spread: jax.Array
    best: jax.Array
    score: jax.Array
    drawn: jax.Array
    soft: jax.Array


class _Chunk(NamedTuple):
    """What the loop reads of one chunk of the vocabulary.

    Attributes:
      rows: [size, D], the chunk's rows of the embedding, plain or quantized. With Pallas kernels,
        which read the whole embedding: the rows' scales [size, 1], or None without scales.
      gumbel: [B, C, blocks of the chunk] float32, the draw's noise; None without a draw.
      number: [] int32, the number of the chunk.
    """

    rows: jax.Array | Quantized | None
    gumbel: jax.Array | None
    number: jax.Array


@dataclasses.dataclass(frozen=True)
class _ChunkedEmbedding:
    """The embedding cut into chunks of the vocabulary, and its products with one of them.

    Attributes:
      table: [V, D], plain or quantized.
      num_chunks: number of chunks.
      dtype: dtype of the products' left factors.
      kernel: the product by Pallas kernels (head_matmul.product); None for XLA's.
    """

    table: jax.Array | Quantized
    num_chunks: int
    dtype: jnp.dtype
    kernel: Callable[..., jax.Array] | None

    @property
    def size(self) -> int:
        """Tokens in a chunk."""
        return self.table.shape[0] // self.num_chunks

    def chunks(self, gumbel: jax.Array | None) -> _Chunk:
        """All chunks, stacked on a leading axis."""
        scales = self.table.scales if isinstance(self.table, Quantized) else None
        rows = self.table if self.kernel is None else scales
        return _Chunk(
            jax.tree.map(lambda a: a.reshape(self.num_chunks, self.size, a.shape[-1]), rows),
            None if gumbel is None else _split(gumbel, self.num_chunks),
            jnp.arange(self.num_chunks, dtype=jnp.int32),
        )

    def product(self, y: jax.Array, chunk: _Chunk, *, transpose: bool) -> jax.Array:
        """y [B, C, size] @ rows -> [B, C, D], or transposed [B, C, D] -> [B, C, size]; float32."""
        if self.kernel is None:
            y = y.astype(self.dtype)
            return matmul(y, chunk.rows, transpose=transpose, dtype=jnp.float32)
        scale = 1.0 if chunk.rows is None else chunk.rows[:, 0]
        y = (y if transpose else y * scale).astype(self.dtype)
        y = self.kernel(y, _values(self.table), chunk.number, size=self.size, transpose=transpose)
        return y * scale if transpose else y


def _values(table: jax.Array | Quantized) -> jax.Array:
    return table.values if isinstance(table, Quantized) else table


def _kernel_product(
    x: jax.Array, table: jax.Array | Quantized, backend: Backend | None
) -> Callable[..., jax.Array] | None:
    """The product by Pallas kernels, if they are to be taken and support these arrays."""
    if not takes_kernels(backend):
        return None
    # Imported where it is taken: without a GPU, nothing needs Pallas.
    from diffusiongemma.kernels import head_matmul

    interpret = backend == "interpret"
    if not interpret and not head_matmul.supports(x, _values(table)):
        return None
    return functools.partial(head_matmul.product, interpret=interpret)


def draw(
    weights: jax.Array, top: jax.Array, noise: DrawNoise, block: int
) -> tuple[jax.Array, jax.Array]:
    """A draw among the tokens of one chunk.

    Args:
      weights: [B, C, size] float32, exp(logit - top).
      top: [B, C] float32.
      noise: the chunk's part of the noise.
      block: tokens in a block.

    Returns:
      the score of the chosen block [B, C] float32, and the token drawn from it, counted from the
      chunk's first one [B, C] int32.
    """
    blocks = weights.reshape(*weights.shape[:-1], -1, block)
    scores = jnp.log(blocks.sum(axis=-1)) + top[..., None] + noise.gumbel
    chosen = argmax(scores)[..., None]
    own = jnp.take_along_axis(blocks, chosen[..., None], axis=-2)[..., 0, :]
    below = jnp.cumsum(own, axis=-1)
    # The target lies in (0, total], so that no token of weight 0 is drawn.
    target = (1 - noise.uniform[..., None]) * below[..., -1:]
    token = jnp.sum(below < target, axis=-1, dtype=jnp.int32)
    return jnp.max(scores, axis=-1), chosen[..., 0] * block + token


def _num_chunks(rows: int, vocab_size: int, block: int, limit: int) -> int:
    """The fewest equal chunks of whole blocks whose logits stay within a limit in bytes."""
    blocks = vocab_size // block
    fit = max(limit // (4 * rows * block), 1)
    return next(n for n in range(-(-blocks // fit), blocks + 1) if blocks % n == 0)


def _split(x: jax.Array, parts: int) -> jax.Array:
    """[B, C, n] -> [parts, B, C, n / parts]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], parts, -1), -2, 0)
