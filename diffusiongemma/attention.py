"""Attention layers, sliding and full, and the KV cache.

encode writes keys and values to the cache; denoise reads it. What all layers of one type share in a
call (positions, rotations, the slots that are written) is computed once, as a Context.

One rule covers every mask: a query at position i sees the keys at positions j with
i - window < j <= i. In encode, i is the token's own position, so attention is causal. In denoise,
the tokens of a canvas behind n cached tokens all have i = n for the cache, and see each other
without a mask. So in full layers (no window) they see the whole cache, and in sliding layers its
last window - 1 tokens. In encode, a token of an image also sees the later tokens of its image, in
sliding layers and within the window (Context.reach).

The code of the rule, and of the ring in which a layer keeps its tokens, is in ops/masks.py. The
softmax over the cache and the new tokens is in ops/blockwise_attention.py. Read on in moe.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffusiongemma.backend import Backend, takes_kernels
from diffusiongemma.config import LayerType, ModelConfig
from diffusiongemma.layers import Linear, RMSNorm, apply_rope, rms_norm, rope_table
from diffusiongemma.ops import masks
from diffusiongemma.ops.blockwise_attention import Part, attend, attend_band


class LayerCache(NamedTuple):
    """Keys and values of one layer.

    Attributes:
      keys: [B, K, S, head_dim], normed and rotated.
      values: [B, K, S, head_dim], normed.
    """

    keys: jax.Array
    values: jax.Array


class KVCache(NamedTuple):
    """What encode wrote.

    Attributes:
      layers: a cache for each layer.
      length: [B] int32, the number of tokens of each row.
    """

    layers: tuple[LayerCache, ...]
    length: jax.Array


class Context(NamedTuple):
    """What all layers of one type share in one call.

    Attributes:
      cos: [B, T, head_dim / 2] float32, cosines of the new tokens' rotations (RoPE).
      sin: [B, T, head_dim / 2] float32, sines of the same.
      query: [B, T or 1] int32, the positions from which the new tokens see (masks.visible).
      cached: [B', S] int32, the positions in the cache slots; B' divides B.
      new: [B, T] int32, the new tokens' positions as keys; None if every token sees all of them.
      slots: [B, T] int32, the slots that the new tokens are written to; None if they are not
        written.
      reach: [B, T] int32, the last position that each new token sees (masks.visible); None: its
        own.
    """

    cos: jax.Array
    sin: jax.Array
    query: jax.Array
    cached: jax.Array
    new: jax.Array | None
    slots: jax.Array | None
    reach: jax.Array | None = None


def kv_shape(config: ModelConfig, layer_type: LayerType) -> tuple[int, int]:
    """KV heads and head dim of a layer."""
    if layer_type == "full":
        return config.full_num_kv_heads, config.full_head_dim
    return config.num_kv_heads, config.head_dim


def init_cache(
    config: ModelConfig, batch_size: int, max_length: int, dtype: DTypeLike = jnp.float32
) -> KVCache:
    """An empty cache. Sliding layers keep window - 1 tokens, full layers max_length."""

    def layer(layer_type: LayerType) -> LayerCache:
        slots = max_length if layer_type == "full" else min(max_length, config.window - 1)
        kv_heads, head_dim = kv_shape(config, layer_type)
        shape = (batch_size, kv_heads, slots, head_dim)
        return LayerCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    return KVCache(tuple(layer(t) for t in config.layer_types), jnp.zeros((batch_size,), jnp.int32))


def check_room(
    config: ModelConfig, cache: KVCache, num_tokens: int, mask: jax.Array | None
) -> None:
    """Checks that new tokens fit into the full layers; traced values are not checked.

    Args:
      config: of the model.
      cache: the cache before the call.
      num_tokens: T, new tokens with their padding.
      mask: [B, T] bool, True at real tokens; None if all are real.

    Raises:
      ValueError: the tokens do not fit.
    """
    room = [
        layer.keys.shape[2]
        for layer_type, layer in zip(config.layer_types, cache.layers, strict=True)
        if layer_type == "full"
    ]
    if not room or any(isinstance(x, jax.core.Tracer) for x in (cache.length, mask)):
        return
    new = num_tokens if mask is None else mask.sum(axis=1)
    longest = int(jnp.max(cache.length + new))
    if longest > room[0]:
        raise ValueError(
            f"{longest} tokens do not fit into a cache of {room[0]}: give init_cache a larger "
            "max_length"
        )


def write(cached: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
    """Puts new [B, K, T, h] into cached [B, K, S, h] at slots [B, T]; slot S writes nothing."""
    row = jnp.arange(cached.shape[0])[:, None]
    new = new.swapaxes(1, 2).astype(cached.dtype)
    return cached.at[row, :, slots].set(new, mode="drop")


class Attention(nnx.Module):
    """One attention layer (docs/MODEL.md, Network).

    Sliding layers have separate key and value projections, and rotate all dims. Full layers have no
    value projection: their value is the key projection before the key's norm and rotation. They
    rotate a part of the dims only.

    Attributes:
      backend: how scores and values are computed; None chooses by platform (backend.py).
    """

    def __init__(
        self,
        config: ModelConfig,
        layer_type: LayerType,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        kv_heads, head_dim = kv_shape(config, layer_type)
        self.head_dim = head_dim
        self.window = config.window if layer_type == "sliding" else masks.NO_WINDOW
        self.eps = config.norm_eps
        width = config.width
        self.q = Linear(width, config.num_heads * head_dim, rngs=rngs, dtype=dtype)
        self.k = Linear(width, kv_heads * head_dim, rngs=rngs, dtype=dtype)
        if layer_type == "sliding":
            self.v = Linear(width, kv_heads * head_dim, rngs=rngs, dtype=dtype)
        else:
            self.v = nnx.data(None)
        self.o = Linear(config.num_heads * head_dim, width, rngs=rngs, dtype=dtype)
        # The softmax has no factor 1/sqrt(h). The initial scale of the query norm stands for it.
        self.q_norm = RMSNorm(head_dim, config.norm_eps, init=head_dim**-0.5, dtype=dtype)
        self.k_norm = RMSNorm(head_dim, config.norm_eps, dtype=dtype)
        self.backend: Backend | None = None

    def __call__(
        self, x: jax.Array, cache: LayerCache | None, context: Context
    ) -> tuple[jax.Array, LayerCache]:
        """Attends over the cache and x.

        Args:
          x: [B, T, D].
          cache: the layer's cache; None for an empty one.
          context: the context of this layer's type.

        Returns:
          [B, T, D], and the cache with the new tokens written to context.slots. Without slots: the
          new tokens' keys and values alone.
        """
        q, k = self._heads(self.q(x)), self._heads(self.k(x))
        v = k if self.v is None else self._heads(self.v(x))
        q = apply_rope(self.q_norm(q), context.cos, context.sin)
        k = apply_rope(self.k_norm(k), context.cos, context.sin)
        v = rms_norm(v, self.eps).astype(x.dtype)

        k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
        kept = LayerCache(k, v)
        if context.slots is not None:
            old = LayerCache(jnp.zeros_like(k), jnp.zeros_like(v)) if cache is None else cache
            kept = LayerCache(
                write(old.keys, k, context.slots), write(old.values, v, context.slots)
            )
        unpadded = cache is None and context.slots is None
        if unpadded and x.shape[1] > 2 * self.window:
            out = attend_band(q, k, v, context.query, self.window, context.reach)
        else:
            parts = [Part(k, v, context.new)]
            if cache is not None and cache.keys.shape[2]:
                keys, values = (a.astype(k.dtype) for a in cache)
                parts.append(Part(keys, values, context.cached))
            out = self._attend(q, parts, context)
        return self.o(out.reshape(*x.shape[:2], -1)), kept

    def _attend(self, q: jax.Array, parts: list[Part], context: Context) -> jax.Array:
        rule = context.query, self.window, context.reach
        if takes_kernels(self.backend):
            # Imported where it is taken: without a GPU, nothing needs Pallas.
            from diffusiongemma.kernels import flash_attention

            interpret = self.backend == "interpret"
            if interpret or flash_attention.supports(q, parts):
                return flash_attention.attend(q, parts, *rule, interpret=interpret)
        return attend(q, parts, *rule)

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], -1, self.head_dim)


def encode_contexts(
    config: ModelConfig,
    cache: KVCache | None,
    batch_size: int,
    num_tokens: int,
    mask: jax.Array | None,
    is_image: jax.Array | None = None,
) -> tuple[dict[LayerType, Context], jax.Array]:
    """What the layers of each type share in a causal call.

    Args:
      config: of the model.
      cache: the cache before the call; None for an empty one.
      batch_size: B.
      num_tokens: T, new tokens with their padding.
      mask: [B, T] bool, True at real tokens; None if all are real.
      is_image: [B, T] bool, the tokens of images. In sliding layers they also see the later tokens
        of their image, within the window. None: there is no image, or images are causal too.

    Returns:
      a context for each layer type, and the rows' lengths after the call [B] int32.
    """
    length = jnp.zeros((batch_size,), jnp.int32) if cache is None else cache.length
    positions = masks.token_positions(length, mask, num_tokens)
    new_length = length + (num_tokens if mask is None else mask.sum(axis=1, dtype=jnp.int32))
    contexts = {}
    for layer_type, num_slots in _slots(config, cache).items():
        if cache is None:  # the new tokens become the cache, as they are if there is no padding
            slots = None
            if mask is not None:
                slots = masks.write_slots(positions, mask, new_length, num_tokens)
        else:
            slots = masks.write_slots(positions, mask, new_length, num_slots)
        reach = None
        if is_image is not None and layer_type == "sliding":
            reach = masks.span_reach(positions, is_image, mask, config.window)
        contexts[layer_type] = Context(
            *_rope(config, layer_type, positions),
            query=positions,
            cached=masks.slot_positions(length, num_slots),
            new=positions if mask is None else jnp.where(mask, positions, -1),
            slots=slots,
            reach=reach,
        )
    return contexts, new_length


def denoise_contexts(
    config: ModelConfig, cache: KVCache, batch_size: int, canvas_size: int
) -> dict[LayerType, Context]:
    """What the layers of each type share in a bidirectional call, which only reads the cache.

    Args:
      config: of the model.
      cache: the canvases' context; its rows must divide the batch.
      batch_size: B.
      canvas_size: C.

    Returns:
      a context for each layer type.
    """
    length = jnp.repeat(cache.length, batch_size // cache.length.shape[0])
    positions = masks.token_positions(length, None, canvas_size)
    return {
        layer_type: Context(
            *_rope(config, layer_type, positions),
            query=cache.length[:, None],
            cached=masks.slot_positions(cache.length, num_slots),
            new=None,
            slots=None,
        )
        for layer_type, num_slots in _slots(config, cache).items()
    }


def _slots(config: ModelConfig, cache: KVCache | None) -> dict[LayerType, int]:
    """The number of slots in the cache of each layer type."""
    if cache is None:
        return dict.fromkeys(config.layer_types, 0)
    return {
        t: layer.keys.shape[2] for t, layer in zip(config.layer_types, cache.layers, strict=True)
    }


def _rope(
    config: ModelConfig, layer_type: LayerType, positions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines for the positions [B, T] in layers of a type."""
    if layer_type == "full":
        return rope_table(
            positions, config.full_head_dim, config.full_rope_theta, config.full_rope_fraction
        )
    return rope_table(positions, config.head_dim, config.rope_theta)
