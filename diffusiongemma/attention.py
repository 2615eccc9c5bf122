"""Attention of sliding and full layers, and the functional KV cache."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from diffusiongemma import masks
from diffusiongemma.config import LayerType, ModelConfig
from diffusiongemma.layers import Linear, RMSNorm, apply_rope, rms_norm, rope_table


class LayerCache(NamedTuple):
    """Keys (normed and turned) and values (normed) of one layer: [B, S, K, head_dim] each."""

    keys: jax.Array
    values: jax.Array


class KVCache(NamedTuple):
    """What encode wrote: a cache a layer, and each row's number of tokens, `length` [B] int32."""

    layers: tuple[LayerCache, ...]
    length: jax.Array


class Context(NamedTuple):
    """What all layers of one type share in one call, computed once.

    Attributes:
      cos, sin: [B, T, head_dim / 2] float32, RoPE of the new tokens.
      cached: [B, T or 1, S] bool, visibility of the cache slots.
      new: [B, T, T] bool, visibility of the new tokens; None: all see all.
      slots: [B, T] int32, where the new tokens go in the cache; None: they are not kept.
    """

    cos: jax.Array
    sin: jax.Array
    cached: jax.Array
    new: jax.Array | None
    slots: jax.Array | None


def kv_shape(config: ModelConfig, layer_type: LayerType) -> tuple[int, int]:
    """(KV heads, head dim) of a layer."""
    if layer_type == "full":
        return config.full_num_kv_heads, config.full_head_dim
    return config.num_kv_heads, config.head_dim


def init_cache(config: ModelConfig, batch_size: int, max_length: int, dtype=jnp.float32) -> KVCache:
    """An empty cache: sliding layers keep window - 1 tokens, full layers max_length."""

    def layer(layer_type: LayerType) -> LayerCache:
        slots = max_length if layer_type == "full" else min(max_length, config.window - 1)
        shape = (batch_size, slots, *kv_shape(config, layer_type))
        return LayerCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    return KVCache(tuple(layer(t) for t in config.layer_types), jnp.zeros((batch_size,), jnp.int32))


def check_room(config: ModelConfig, cache: KVCache, num_tokens: int, mask) -> None:
    """Raises ValueError if new tokens would not fit into full layers; skipped for traced values."""
    room = [
        layer.keys.shape[1]
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
    """Puts new [B, T, K, h] into cached [B, S, K, h] at slots [B, T]; slot S writes nothing."""
    row = jnp.arange(cached.shape[0])[:, None]
    return cached.at[row, slots].set(new.astype(cached.dtype), mode="drop")


class Part(NamedTuple):
    """Keys and values to attend to: [B, S, K, h] each, mask [B, T or 1, S] bool or None (all)."""

    keys: jax.Array
    values: jax.Array
    mask: jax.Array | None


def attend(q: jax.Array, parts: Sequence[Part]) -> jax.Array:
    """Grouped-query attention over several parts, which are never copied into one array.

    Softmax has scale 1 and is taken in float32 over all parts together. A part of fewer rows than
    q is shared: row i of q reads its row i // (rows of q / rows of the part).

    Args:
      q: [B, T, H, h].
      parts: K divides H, their rows divide B and one another. Every query must see something.

    Returns:
      [B, T, H, h] in the values' dtype.
    """
    batch, num_queries, heads, head_dim = q.shape
    kv_heads = parts[0].keys.shape[2]
    group = heads // kv_heads
    rows = min(part.keys.shape[0] for part in parts)
    share = batch // rows
    # Batch axes first, all queries of one KV head as rows of one matmul: the layout in which XLA's
    # CPU matmuls are fastest (2.5 times, with gradients, over a five-axis einsum).
    q = q.reshape(rows, share, num_queries, kv_heads, group, head_dim).transpose(0, 3, 1, 4, 2, 5)

    def by_head(x: jax.Array) -> jax.Array:
        """[B', S, K, h] -> [rows, K, B' / rows, S, h]."""
        return x.reshape(rows, -1, *x.shape[1:]).transpose(0, 3, 1, 2, 4)

    scores = []
    for part in parts:
        keys = by_head(part.keys)
        own = keys.shape[2]
        found = jnp.einsum(
            "bkrth,bkrsh->bkrts",
            q.reshape(rows, kv_heads, own, -1, head_dim),
            keys,
            preferred_element_type=jnp.float32,
        )
        if part.mask is not None:
            found = found.reshape(rows, kv_heads, own, -1, num_queries, keys.shape[3])
            mask = part.mask.reshape(rows, 1, own, 1, *part.mask.shape[1:])
            found = jnp.where(mask, found, jnp.finfo(jnp.float32).min)
        scores.append(found.reshape(rows, kv_heads, -1, keys.shape[3]))
    top = jnp.max(jnp.stack([x.max(axis=-1) for x in scores]), axis=0)[..., None]
    top = jax.lax.stop_gradient(top)

    total, out = 0.0, 0.0
    for part, found in zip(parts, scores, strict=True):
        weights, values = jnp.exp(found - top), by_head(part.values)
        total = total + weights.sum(axis=-1, keepdims=True)
        weights = weights.astype(values.dtype).reshape(*values.shape[:3], -1, values.shape[3])
        mixed = jnp.matmul(weights, values, preferred_element_type=jnp.float32)
        out = out + mixed.reshape(rows, kv_heads, -1, head_dim)
    out = (out / total).astype(parts[0].values.dtype)
    out = out.reshape(rows, kv_heads, share, group, num_queries, head_dim)
    return out.transpose(0, 2, 4, 1, 3, 5).reshape(batch, num_queries, heads, head_dim)


class Attention(nnx.Module):
    """One attention layer (SPEC section 1).

    Sliding layers: separate K and V projections, RoPE on all dims. Full layers: V is the K
    projection before K's norm and RoPE, which turns a part of the dims only.
    """

    def __init__(
        self, config: ModelConfig, layer_type: LayerType, *, rngs: nnx.Rngs, dtype=jnp.float32
    ):
        kv_heads, head_dim = kv_shape(config, layer_type)
        self.head_dim = head_dim
        self.eps = config.norm_eps
        width = config.width
        self.q = Linear(width, config.num_heads * head_dim, rngs=rngs, dtype=dtype)
        self.k = Linear(width, kv_heads * head_dim, rngs=rngs, dtype=dtype)
        if layer_type == "sliding":
            self.v = Linear(width, kv_heads * head_dim, rngs=rngs, dtype=dtype)
        else:
            self.v = nnx.data(None)
        self.o = Linear(config.num_heads * head_dim, width, rngs=rngs, dtype=dtype)
        # The softmax has no 1/sqrt(h): a fresh model gets it from the scale of its query norm.
        self.q_norm = RMSNorm(head_dim, config.norm_eps, init=head_dim**-0.5, dtype=dtype)
        self.k_norm = RMSNorm(head_dim, config.norm_eps, dtype=dtype)

    def __call__(
        self, x: jax.Array, cache: LayerCache | None, context: Context
    ) -> tuple[jax.Array, LayerCache]:
        """Attends over [cache, x].

        Args:
          x: [B, T, D].
          cache: the layer's cache, or None for an empty one.
          context: of this layer's type.

        Returns:
          [B, T, D], and the cache with the new tokens written to context.slots; without slots,
          the new tokens' keys and values alone.
        """
        q, k = self._heads(self.q(x)), self._heads(self.k(x))
        v = k if self.v is None else self._heads(self.v(x))
        q = apply_rope(self.q_norm(q), context.cos, context.sin)
        k = apply_rope(self.k_norm(k), context.cos, context.sin)
        v = rms_norm(v, self.eps).astype(x.dtype)

        kept = LayerCache(k, v)
        if context.slots is not None:
            old = LayerCache(jnp.zeros_like(k), jnp.zeros_like(v)) if cache is None else cache
            kept = LayerCache(
                write(old.keys, k, context.slots), write(old.values, v, context.slots)
            )
        parts = [Part(k, v, context.new)]
        if cache is not None and cache.keys.shape[1]:
            parts.insert(
                0, Part(cache.keys.astype(k.dtype), cache.values.astype(v.dtype), context.cached)
            )
        out = attend(q, parts)
        return self.o(out.reshape(*x.shape[:2], -1)), kept

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], -1, self.head_dim)


def encode_contexts(
    config: ModelConfig, cache: KVCache | None, batch_size: int, num_tokens: int, mask
) -> tuple[dict[LayerType, Context], jax.Array]:
    """Contexts of a causal call for each layer type, and the rows' lengths after it [B] int32."""
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
        contexts[layer_type] = Context(
            *_rope(config, layer_type, positions),
            *masks.encode_masks(length, positions, mask, num_slots, _window(config, layer_type)),
            slots,
        )
    return contexts, new_length


def denoise_contexts(
    config: ModelConfig, cache: KVCache, batch_size: int, canvas_size: int
) -> dict[LayerType, Context]:
    """Contexts of a bidirectional call for each layer type; the cache is only read."""
    length = jnp.repeat(cache.length, batch_size // cache.length.shape[0])
    positions = masks.token_positions(length, None, canvas_size)
    return {
        layer_type: Context(
            *_rope(config, layer_type, positions),
            masks.denoise_mask(cache.length, num_slots, _window(config, layer_type)),
            None,
            None,
        )
        for layer_type, num_slots in _slots(config, cache).items()
    }


def _slots(config: ModelConfig, cache: KVCache | None) -> dict[LayerType, int]:
    if cache is None:
        return dict.fromkeys(config.layer_types, 0)
    return {
        t: layer.keys.shape[1] for t, layer in zip(config.layer_types, cache.layers, strict=True)
    }


def _window(config: ModelConfig, layer_type: LayerType) -> int:
    return config.window if layer_type == "sliding" else 0


def _rope(config: ModelConfig, layer_type: LayerType, positions: jax.Array):
    if layer_type == "full":
        return rope_table(
            positions, config.full_head_dim, config.full_rope_theta, config.full_rope_fraction
        )
    return rope_table(positions, config.head_dim, config.rope_theta)
