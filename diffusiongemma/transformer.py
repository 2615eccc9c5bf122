"""DiffusionGemma, from tokens to logits: the layers, self-conditioning, and the two modes.

encode() reads clean tokens causally and returns the cache with them. denoise() reads a noisy canvas
behind a cache, and predict() does the same for the sampler, without whole logits. Both modes run
the same layers; only the contexts (attention.py) and the layer scalars differ, and LoRA factors if
an adapter has two sets of them (lora.py). Read on in attention.py.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

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
from diffusiongemma.config import LayerType, Mode, ModelConfig
from diffusiongemma.head import DrawNoise, Prediction
from diffusiongemma.layers import Embedder, GatedMLP, RMSNorm, rms_norm
from diffusiongemma.lora import in_mode
from diffusiongemma.moe import MoE
from diffusiongemma.sharding import split_rows, state_sharding
from diffusiongemma.vision.images import (
    Images,
    SoftTokens,
    check_images,
    image_tokens,
    soft_index,
    with_soft_tokens,
)
from diffusiongemma.vision.tower import VisionTower


class Block(nnx.Module):
    """One layer: attention, then a dense MLP and a mixture of experts side by side.

    The whole output, residual included, is multiplied by the layer scalar of the mode.

    All parameters of a layer, with their axes and initial values. normal(n) has variance 1 / n.
    K and h are those of the layer's type (attention.kv_shape). All are in the model's dtype.

        pre_attention_norm.scale      [D]          ones
        attention.q.kernel            [D, H h]     normal(D)
        attention.k.kernel            [D, K h]     normal(D)
        attention.v.kernel            [D, K h]     normal(D), in sliding layers only
        attention.o.kernel            [H h, D]     normal(H h)
        attention.q_norm.scale        [h]          h^-0.5
        attention.k_norm.scale        [h]          ones
        post_attention_norm.scale     [D]          ones
        pre_mlp_norm.scale            [D]          ones
        mlp.gate.kernel               [D, F]       normal(D)
        mlp.up.kernel                 [D, F]       normal(D)
        mlp.down.kernel               [F, D]       normal(F)
        post_mlp_norm.scale           [D]          ones
        pre_moe_norm.scale            [D]          ones
        moe.router.scale              [D]          ones
        moe.router.proj.kernel        [D, E]       normal(D)
        moe.router.per_expert_scale   [E]          ones
        moe.gate_up.kernel            [E, D, 2 f]  normal(D)
        moe.down.kernel               [E, f, D]    normal(f)
        post_moe_norm.scale           [D]          ones
        post_ffw_norm.scale           [D]          ones
        encode_scalar                 [1]          ones
        denoise_scalar                [1]          ones
    """

    def __init__(
        self,
        config: ModelConfig,
        layer_type: LayerType,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
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
        """Runs the layer.

        Args:
          x: [B, T, D], the residual stream.
          cache: the layer's cache; None for an empty one.
          context: the context of this layer's type.
          mode: chooses the layer scalar.

        Returns:
          [B, T, D], and the layer's cache as Attention returns it.
        """
        attended, kept = self.attention(self.pre_attention_norm(x), cache, context)
        x = x + self.post_attention_norm(attended)
        dense = self.post_mlp_norm(self.mlp(self.pre_mlp_norm(x)))
        sparse = self.post_moe_norm(self.moe(self.pre_moe_norm(x), residual=x))
        x = x + self.post_ffw_norm(dense + sparse)
        scalar = self.encode_scalar if mode == "encode" else self.denoise_scalar
        return x * scalar[...], kept


class SelfConditioner(nnx.Module):
    """Mixes the previous step's soft embedding into the canvas' embedding (denoise mode only).

    Its parameters: pre_norm.scale [D], ones, and mlp.gate, mlp.up and mlp.down as a layer's mlp.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.pre_norm = RMSNorm(config.width, config.norm_eps, dtype=dtype)
        self.mlp = GatedMLP(config.width, config.mlp_dim, rngs=rngs, dtype=dtype)
        self.eps = config.norm_eps

    def __call__(self, embedded: jax.Array, soft: jax.Array | None) -> jax.Array:
        """Mixes the two and normalises their sum.

        Args:
          embedded: [B, C, D], the embedded canvas.
          soft: [B, C, D], the soft embedding; None for zeros, which add nothing.

        Returns:
          [B, C, D].
        """
        if soft is not None:
            embedded = embedded + self.mlp(self.pre_norm(soft.astype(embedded.dtype)))
        return rms_norm(embedded, self.eps).astype(embedded.dtype)


class DiffusionGemma(nnx.Module):
    """The text model, and the vision tower if the config has one (docs/MODEL.md, Network).

    Besides the layers', the self-conditioner's and the tower's parameters there are two:
    embedder.embedding [V, D], normal with variance 1 / D, and final_norm.scale [D], ones.

    Args:
      config: the shape of the network.
      rngs: source of the initial weights.
      dtype: dtype of weights and activations. Norms, softmax, router and logits are float32 inside.

    Attributes:
      remat: True makes gradients compute each layer's activations anew instead of keeping them.
      separate_lora: whether some layers have LoRA factors for one mode alone (lora.py).
      backend: how predict() computes the head; None chooses by platform (backend.py).
      vision: the vision tower (vision/tower.py); None if the config has none.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.config = config
        self.remat = False
        self.separate_lora = False
        self.backend: Backend | None = None
        self.embedder = Embedder(config.vocab_size, config.width, rngs=rngs, dtype=dtype)
        self.layers = nnx.List(
            [Block(config, layer_type, rngs=rngs, dtype=dtype) for layer_type in config.layer_types]
        )
        self.self_conditioner = SelfConditioner(config, rngs=rngs, dtype=dtype)
        self.final_norm = RMSNorm(config.width, config.norm_eps, dtype=dtype)
        self.vision = nnx.data(None)
        if config.vision is not None:  # the last one, so that text weights are drawn as without it
            self.vision = VisionTower(config.vision, config.width, rngs=rngs, dtype=dtype)

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
        images: Images | SoftTokens | None = None,
    ) -> tuple[jax.Array | None, KVCache]:
        """Reads clean tokens causally behind a cache, and adds them to it.

        Images that come with a call are whole in it: all their image tokens are among its tokens.
        In sliding layers, a token of an image also sees the later tokens of its image, within the
        window. Image tokens without images are tokens like others.

        Args:
          tokens: [B, P] int32.
          cache: from init_cache or an earlier call. None starts a cache that holds exactly these
            tokens, in sliding layers too, as training needs it.
          mask: [B, P] bool, True at real tokens, wherever the padding is; None if all are real.
            A row without a real token keeps its cache as it is.
          logits: the tokens to return logits for: "all", each row's "last" real one, those at some
            places [B, N] int32, or "none".
          images: the images whose image tokens the tokens have, or what `see` made of them.

        Returns:
          logits, float32 and softcapped: [B, P, V] for "all", [B, V] for "last", [B, N, V] for
          places, None for "none"; and the new cache. At padding the logits mean nothing.

        Raises:
          ValueError: there are more tokens than the cache has room for, or the images do not
            fit the model and the tokens (vision/images.py). Traced values are not checked.
        """
        batch_size, num_tokens = tokens.shape
        if cache is not None:
            check_room(self.config, cache, num_tokens, mask)
        soft, is_image = None, None
        if images is not None:
            soft = images if isinstance(images, SoftTokens) else self.see(images, tokens, mask)
            is_image = soft.index >= 0 if self.config.vision.bidirectional else None
        contexts, length = encode_contexts(
            self.config, cache, batch_size, num_tokens, mask, is_image
        )
        x = self.embedder.encode(tokens)
        if soft is not None:
            x = with_soft_tokens(x, soft)
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

    def see(self, images: Images, tokens: jax.Array, mask: jax.Array | None = None) -> SoftTokens:
        """The soft tokens of images, and which token of a text has which of them.

        Args:
          images: the images.
          tokens: [B, P] int32, the text.
          mask: [B, P] bool, True at real tokens; None if all are real.

        Raises:
          ValueError: the images do not fit the model and the tokens (vision/images.py). Traced
            values are not checked.
        """
        check_images(self.config.vision, images, tokens, mask)
        values, counts = self.vision(images)
        is_image = image_tokens(self.config.vision, tokens, mask)
        index = soft_index(is_image, counts, values.shape[1])
        return SoftTokens(values.reshape(-1, values.shape[-1]), index)

    def denoise(
        self, canvas: jax.Array, cache: KVCache, soft: jax.Array | None = None
    ) -> jax.Array:
        """Predicts the clean token at every position of a noisy canvas that follows the cache.

        Args:
          canvas: [B, C] int32.
          cache: the context, which is only read. It may have fewer rows than the canvas if they
            divide B: then each row is the context of B / rows canvases in succession.
          soft: [B, C, D], the soft embedding of the last step; None, or zeros, at the first step.

        Returns:
          logits [B, C, V] float32, softcapped.

        Raises:
          ValueError: the rows of the cache do not divide those of the canvas.
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
        """denoise() for the sampler: what a step needs of the logits, without whole logits.

        Args:
          canvas: [B, C] int32.
          cache: the context, as denoise takes it.
          soft: [B, C, D], as denoise takes it.
          temperature: tau, divides the logits.
          noise: random numbers for a draw from the tempered distribution; None for no draw.
        """
        states = self.canvas_states(canvas, cache, soft)
        table = self.embedder.embedding[...]
        cap, backend = self.config.softcap, self.backend
        found = head.predict(split_rows(states), table, cap, temperature, noise, backend=backend)
        return found._replace(states=states)

    def soft_embed(self, tempered_logits: jax.Array) -> jax.Array:
        """The soft embedding softmax(tempered_logits) @ E * sqrt(D): [B, C, V] -> [B, C, D]."""
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
            block = in_mode(block, mode) if self.separate_lora else block
            run = _remat(block, mode) if self.remat else functools.partial(block, mode=mode)
            x, layer_cache = run(split_rows(x), layer_cache, contexts[layer_type])
            kept.append(layer_cache)
        return self.final_norm(x), tuple(kept)


def create_model(
    config: ModelConfig, seed: int, dtype: DTypeLike = jnp.float32, mesh: Mesh | None = None
) -> DiffusionGemma:
    """A model with random weights, which are made on the devices where they belong.

    Args:
      config: the shape of the network.
      seed: random seed.
      dtype: dtype of weights and activations.
      mesh: the devices; None for one device.
    """

    def create():
        return DiffusionGemma(config, rngs=nnx.Rngs(seed), dtype=dtype)

    graphdef, shapes = nnx.split(nnx.eval_shape(create))
    where = None if mesh is None else state_sharding(shapes, mesh)
    return nnx.merge(graphdef, jax.jit(lambda: nnx.state(create()), out_shardings=where)())


def _remat(block: Block, mode: Mode) -> Callable[..., tuple[jax.Array, LayerCache]]:
    """A block as a function of (x, cache, context); gradients compute its activations anew."""
    # jax.checkpoint takes the block's state, because nnx.remat does not work inside loops.
    graphdef, state = nnx.split(block)

    def run(state, x, cache, context):
        return nnx.merge(graphdef, state)(x, cache, context, mode)

    return functools.partial(jax.checkpoint(run), state)
