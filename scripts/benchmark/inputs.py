"""A random model and the arguments of its denoising step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.attention import KVCache
from sample.prefill import prefill
from sample.split_model import SplitModel


def random_model(config: ModelConfig, dtype: DTypeLike, seed: int = 0) -> DiffusionGemma:
    """A model with random matrices of the usual scale, made one by one on the device.

    Vectors have the values that they start training with. Beside the weights this takes memory for
    two copies of the largest matrix.
    """
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0), dtype=dtype))
    graphdef, shapes = nnx.split(model)
    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(shapes))))

    def make(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        key, name = next(keys), jax.tree_util.keystr(path)
        if leaf.ndim == 1:
            value = leaf.shape[0] ** -0.5 if "q_norm" in name else 1.0
            return jnp.full(leaf.shape, value, leaf.dtype)
        fan_in = leaf.shape[-1] if "embedding" in name else leaf.shape[-2]
        return _uniform(key, leaf.shape, jnp.dtype(leaf.dtype), (3 / fan_in) ** 0.5)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(make, shapes))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype, limit: float) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -limit, limit)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A model and the arguments of its denoising step: a full cache and a random canvas.

    Attributes:
      split: the model, split; see sample/split_model.py.
      tokens: [B, P] int32, the tokens in the cache.
      cache: the KV cache of these tokens.
      canvas: [B, C] int32.
      soft: [B, C, D], a random soft embedding.
      keys: [B] PRNG keys.
    """

    split: SplitModel
    tokens: jax.Array
    cache: KVCache
    canvas: jax.Array
    soft: jax.Array
    keys: jax.Array

    @property
    def model(self) -> DiffusionGemma:
        """The model, which shares its arrays with `split`."""
        return self.split.merge()


def make_inputs(model: DiffusionGemma, batch: int, context: int, chunk: int) -> Inputs:
    """Random inputs of a model.

    Args:
      batch: B, rows.
      context: P, tokens in the cache.
      chunk: tokens that prefill reads at a time.
    """
    config = model.config
    split = SplitModel(model)
    tokens, canvas, soft, keys = jax.random.split(jax.random.key(1), 4)
    tokens = jax.random.randint(tokens, (batch, context), 0, config.vocab_size)
    shape = (batch, config.canvas_size)
    cache = prefill(split, tokens, jnp.ones(tokens.shape, bool), context, chunk)
    return Inputs(
        split,
        tokens,
        cache,
        jax.random.randint(canvas, shape, 0, config.vocab_size),
        jax.random.normal(soft, (*shape, config.width), model.dtype),
        jax.random.split(keys, batch),
    )
