"""DiffusionGemma: one set of weights, a causal encode() and a bidirectional denoise()."""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from diffusiongemma import head
from diffusiongemma.attention import (
    Attention,
    Context,
    KVCache,
    LayerCache,
    check_room,
    denoise_contexts,
    encode_contexts,
    init_cache,
)
from diffusiongemma.backend import Backend
from diffusiongemma.config import LayerType, ModelConfig
from diffusiongemma.head import DrawNoise, Prediction
from diffusiongemma.layers import Embedder, GatedMLP, RMSNorm, rms_norm
from diffusiongemma.moe import MoE
from diffusiongemma.sharding import split_rows, state_sharding

Mode = Literal["encode", "denoise"]


class Block(nnx.Module):
    """Attention, then a dense MLP and a mixture of experts side by side, then the layer scalar."""

    def __init__(
        self, config: ModelConfig, layer_type: LayerType, *, rngs: nnx.Rngs, dtype=jnp.float32
    ):
        def norm() -> RMSNorm:
            return RMSNorm(config.width, config.norm_eps, dtype=dtype)

        self.pre_attention_norm = norm()
        self.attention = Attention(config, layer_type, rngs=rngs, dtype=dtype)
        self.post_attention_norm = norm()
        self.pre_mlp_norm = norm()
        self.mlp = GatedMLP(config.width, config.mlp_dim, rngs=rngs, dtype=dtype)
        self.post_mlp_norm = norm()
        self.pre_moe_norm = norm()
        self.moe = MoE(config, rngs=rngs, dtype=dtype)
        self.post_moe_norm = norm()
        self.post_ffw_norm = norm()
        self.encode_scalar = nnx.Param(jnp.ones((1,), dtype))
        self.denoise_scalar = nnx.Param(jnp.ones((1,), dtype))

    def __call__(
        self, x: jax.Array, cache: LayerCache | None, context: Context, mode: Mode
    ) -> tuple[jax.Array, LayerCache]:
        """[B, T, D] -> [B, T, D], and what Attention returns as the layer's cache."""
        attended, kept = self.attention(self.pre_attention_norm(x), cache, context)
        x = x + self.post_attention_norm(attended)
        dense = self.post_mlp_norm(self.mlp(self.pre_mlp_norm(x)))
        sparse = self.post_moe_norm(self.moe(self.pre_moe_norm(x), residual=x))
        x = x + self.post_ffw_norm(dense + sparse)
        scalar = self.encode_scalar if mode == "encode" else self.denoise_scalar
        return x * scalar[...], kept


class SelfConditioner(nnx.Module):
    """Mixes the previous step's soft embedding into the canvas' embedding (denoise mode only)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.pre_norm = RMSNorm(config.width, config.norm_eps, dtype=dtype)
        self.mlp = GatedMLP(config.width, config.mlp_dim, rngs=rngs, dtype=dtype)
        self.eps = config.norm_eps

    def __call__(self, embedded: jax.Array, soft: jax.Array | None) -> jax.Array:
        """embedded [B, C, D], soft [B, C, D] or None for zeros (which add nothing) -> [B, C, D]."""
        if soft is not None:
            embedded = embedded + self.mlp(self.pre_norm(soft.astype(embedded.dtype)))
        return rms_norm(embedded, self.eps).astype(embedded.dtype)


class DiffusionGemma(nnx.Module):
    """The text model, without vision.

    Args:
      config: its shape.
      rngs: source of the initial weights.
      dtype: of weights and activations (norms, softmax, router and logits are float32 inside).

    Attributes:
      remat: whether gradients compute each layer's activations anew instead of keeping them.
      backend: how predict() computes the head; None: the platform's way (backend.py).
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.config = config
        self.remat = False
        self.backend: Backend | None = None
        self.embedder = Embedder(config.vocab_size, config.width, rngs=rngs, dtype=dtype)
        self.layers = nnx.List(
            [Block(config, layer_type, rngs=rngs, dtype=dtype) for layer_type in config.layer_types]
        )
        self.self_conditioner = SelfConditioner(config, rngs=rngs, dtype=dtype)
        self.final_norm = RMSNorm(config.width, config.norm_eps, dtype=dtype)

    @property
    def dtype(self) -> jnp.dtype:
        return self.embedder.embedding.dtype

    def init_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache for rows of up to max_length tokens, in the model's dtype."""
        return init_cache(self.config, batch_size, max_length, self.dtype)

    def encode(
        self,
        tokens: jax.Array,
        cache: KVCache | None = None,
        mask: jax.Array | None = None,
        *,
        logits: Literal["all", "last", "none"] | jax.Array = "all",
    ) -> tuple[jax.Array | None, KVCache]:
        """Reads clean tokens causally after what the cache holds, and writes them to it.

        Args:
          tokens: [B, P] int32.
          cache: from init_cache or an earlier call. None starts one that holds exactly these
            tokens, in sliding layers too (as training wants).
          mask: [B, P] bool, True at real tokens, wherever the padding is; None if all are real.
            A row without a real token leaves its cache as it is.
          logits: of every token, of each row's last real one, of those at some places [B, N] int32,
            or none.

        Returns:
          logits [B, P, V] float32 softcapped ("last": [B, V], places: [B, N, V], "none": None), and
          the new cache.
          At padding the logits mean nothing.

        Raises:
          ValueError: more tokens than the cache has room for, as far as that is known without
            running: a traced mask or length is not looked at.
        """
        batch_size, num_tokens = tokens.shape
        if cache is not None:
            check_room(self.config, cache, num_tokens, mask)
        contexts, length = encode_contexts(self.config, cache, batch_size, num_tokens, mask)
        x = self.embedder.encode(tokens)
        x, layers = self._run(x, cache, contexts, "encode")
        cache = KVCache(layers, length)
        if not isinstance(logits, str):
            return self.to_logits(jnp.take_along_axis(x, logits[..., None], axis=1)), cache
        if logits == "none":
            return None, cache
        if logits == "last":
            real = jnp.ones(tokens.shape, bool) if mask is None else mask
            last = jnp.max(jnp.where(real, jnp.arange(num_tokens), 0), axis=1)
            x = x[jnp.arange(batch_size), last]
        return self.to_logits(x), cache

    def denoise(
        self, canvas: jax.Array, cache: KVCache, soft: jax.Array | None = None
    ) -> jax.Array:
        """Predicts the clean token at every position of a noisy canvas that follows the cache.

        Args:
          canvas: [B, C] int32.
          cache: the context; only read. With fewer rows than B, which must divide B, each row is
            the context of as many canvases in succession.
          soft: [B, C, D], the last step's soft embedding; None, or zeros, at the first step.

        Returns:
          logits [B, C, V] float32, softcapped.

        Raises:
          ValueError: the cache's rows do not divide the canvases.
        """
        return self.to_logits(self.canvas_states(canvas, cache, soft))

    def predict(
        self,
        canvas: jax.Array,
        cache: KVCache,
        soft: jax.Array | None = None,
        temperature: jax.Array | float = 1.0,
        noise: DrawNoise | None = None,
    ) -> Prediction:
        """denoise() for the sampler: not the logits, but what a step needs of them (head.py).

        Args:
          canvas, cache, soft: as denoise's.
          temperature: tau, divides the logits.
          noise: of a draw from the tempered distribution; None for none.
        """
        states = self.canvas_states(canvas, cache, soft)
        table = self.embedder.embedding[...]
        cap, backend = self.config.softcap, self.backend
        found = head.predict(split_rows(states), table, cap, temperature, noise, backend=backend)
        return found._replace(states=states)

    def soft_embed(self, tempered_logits: jax.Array) -> jax.Array:
        """softmax(tempered_logits) @ E * sqrt(D): [B, C, V] -> [B, C, D]."""
        probabilities = jax.nn.softmax(tempered_logits.astype(jnp.float32), axis=-1)
        return self.embedder.encode_soft(probabilities)

    def canvas_states(
        self, canvas: jax.Array, cache: KVCache, soft: jax.Array | None = None
    ) -> jax.Array:
        """The hidden states of a noisy canvas after the final norm: [B, C, D].

        Args:
          canvas, cache, soft: as denoise's.

        Raises:
          ValueError: the cache's rows do not divide the canvases.
        """
        if canvas.shape[0] % cache.length.shape[0]:
            raise ValueError(f"{cache.length.shape[0]} cached rows for {canvas.shape[0]} canvases")
        contexts = denoise_contexts(self.config, cache, *canvas.shape)
        x = self.self_conditioner(self.embedder.encode(canvas), soft)
        return self._run(x, cache, contexts, "denoise")[0]

    def to_logits(self, states: jax.Array) -> jax.Array:
        """The tied head: hidden states [..., D] -> logits [..., V] float32, softcapped."""
        cap = self.config.softcap
        return cap * jnp.tanh(self.embedder.decode(split_rows(states)) / cap)

    def _run(
        self, x: jax.Array, cache: KVCache | None, contexts: dict[LayerType, Context], mode: Mode
    ) -> tuple[jax.Array, tuple[LayerCache, ...]]:
        kept = []
        for i, (layer_type, block) in enumerate(
            zip(self.config.layer_types, self.layers, strict=True)
        ):
            layer_cache = None if cache is None else cache.layers[i]
            run = _remat(block, mode) if self.remat else functools.partial(block, mode=mode)
            x, layer_cache = run(split_rows(x), layer_cache, contexts[layer_type])
            kept.append(layer_cache)
        return self.final_norm(x), tuple(kept)


def create_model(
    config: ModelConfig, seed: int, dtype=jnp.float32, mesh: Mesh | None = None
) -> DiffusionGemma:
    """A model with random weights, made where they belong; None: on one device."""

    def create():
        return DiffusionGemma(config, rngs=nnx.Rngs(seed), dtype=dtype)

    graphdef, shapes = nnx.split(nnx.eval_shape(create))
    where = None if mesh is None else state_sharding(shapes, mesh)
    return nnx.merge(graphdef, jax.jit(lambda: nnx.state(create()), out_shardings=where)())


def _remat(block: Block, mode: Mode) -> Callable[..., tuple[jax.Array, LayerCache]]:
    # Over the state: nnx.remat does not work inside scans and loops.
    graphdef, state = nnx.split(block)

    def run(state, x, cache, context):
        return nnx.merge(graphdef, state)(x, cache, context, mode)

    return functools.partial(jax.checkpoint(run), state)
