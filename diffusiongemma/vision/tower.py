"""The vision tower: images in, soft tokens of the text model's width out.

A linear map and two tables of positions make a state of each patch. Blocks like those of the text
model follow, without causality and without a window. Then squares of patches are pooled (pooler.py)
and projected. Read on in pooler.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from diffusiongemma.layers import GatedMLP, Linear, RMSNorm, apply_rope, rms_norm, rope_table
from diffusiongemma.ops import masks
from diffusiongemma.ops.blockwise_attention import Part, attend
from diffusiongemma.vision.config import VisionConfig
from diffusiongemma.vision.images import Images, is_real
from diffusiongemma.vision.pooler import Standardize, pool


class _Keys:
    """Random keys for the weights of the tower, made from one key: nnx.Rngs, as Linear calls it.

    nnx.Rngs counts its keys in a variable. While a model is only traced, each count takes longer
    the more has been traced before: for the 26B's tower, 5 seconds in all.
    """

    def __init__(self, key: jax.Array):
        self._key, self._count = key, 0

    def params(self) -> jax.Array:
        """The next key."""
        self._count += 1
        return jax.random.fold_in(self._key, self._count)


class ClippedLinear(Linear):
    """A linear map that clips what it reads and what it returns, at bounds from the checkpoint.

    Attributes:
      input_min, input_max, output_min, output_max: [] bounds; infinite at first.
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ):
        super().__init__(in_dim, out_dim, rngs=rngs, dtype=dtype)
        self.input_min = nnx.Param(jnp.asarray(-jnp.inf, dtype))
        self.input_max = nnx.Param(jnp.asarray(jnp.inf, dtype))
        self.output_min = nnx.Param(jnp.asarray(-jnp.inf, dtype))
        self.output_max = nnx.Param(jnp.asarray(jnp.inf, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in_dim] -> [..., out_dim]."""
        y = super().__call__(_clip(x, self.input_min[...], self.input_max[...]))
        return _clip(y, self.output_min[...], self.output_max[...])


def _clip(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    # Bounds belong to the checkpoint, and training leaves them as they are.
    low, high = jax.lax.stop_gradient((low.astype(x.dtype), high.astype(x.dtype)))
    return jnp.clip(x, low, high)


class VisionContext(NamedTuple):
    """What all blocks share.

    Attributes:
      by_x: cosines and sines [N, L, h / 4] float32 of the rotations by column.
      by_y: the same by row.
      keys: [N, L] int32, 0 at patches that are seen and -1 at padding.
    """

    by_x: tuple[jax.Array, jax.Array]
    by_y: tuple[jax.Array, jax.Array]
    keys: jax.Array


class VisionAttention(nnx.Module):
    """Attention of every patch to all patches of its image (docs/MODEL.md, Images)."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        linear = ClippedLinear if config.clipped else Linear
        width, head_dim = config.width, config.head_dim
        self.head_dim, self.eps = head_dim, config.norm_eps
        self.q = linear(width, config.num_heads * head_dim, rngs=rngs, dtype=dtype)
        self.k = linear(width, config.num_kv_heads * head_dim, rngs=rngs, dtype=dtype)
        self.v = linear(width, config.num_kv_heads * head_dim, rngs=rngs, dtype=dtype)
        self.o = linear(config.num_heads * head_dim, width, rngs=rngs, dtype=dtype)
        # The softmax has no factor 1/sqrt(h). The initial scale of the query norm stands for it.
        self.q_norm = RMSNorm(head_dim, config.norm_eps, init=head_dim**-0.5, dtype=dtype)
        self.k_norm = RMSNorm(head_dim, config.norm_eps, dtype=dtype)

    def __call__(self, x: jax.Array, context: VisionContext) -> jax.Array:
        """[N, L, W] -> [N, L, W]."""
        q, k, v = (self._heads(linear(x)) for linear in (self.q, self.k, self.v))
        q, k = _rotate(self.q_norm(q), context), _rotate(self.k_norm(k), context)
        v = rms_norm(v, self.eps).astype(x.dtype)
        # As in the text model, a key at -1 is seen by no query; the others are all at 0.
        part = Part(k.swapaxes(1, 2), v.swapaxes(1, 2), context.keys)
        out = attend(q, [part], jnp.zeros((x.shape[0], 1), jnp.int32), masks.NO_WINDOW)
        return self.o(out.reshape(*x.shape[:2], -1))

    def _heads(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], -1, self.head_dim)


def _rotate(x: jax.Array, context: VisionContext) -> jax.Array:
    """Turns the first half of each head by x, and the second half by y: [N, L, heads, h]."""
    first, second = jnp.split(x, 2, axis=-1)
    halves = apply_rope(first, *context.by_x), apply_rope(second, *context.by_y)
    return jnp.concatenate(halves, axis=-1)


class VisionBlock(nnx.Module):
    """One block of the tower: attention, then a GeGLU MLP, each between two norms."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        def norm() -> RMSNorm:
            return RMSNorm(config.width, config.norm_eps, dtype=dtype)

        linear = ClippedLinear if config.clipped else Linear
        self.pre_attention_norm = norm()
        self.attention = VisionAttention(config, rngs=rngs, dtype=dtype)
        self.post_attention_norm = norm()
        self.pre_mlp_norm = norm()
        self.mlp = GatedMLP(config.width, config.mlp_dim, rngs=rngs, dtype=dtype, linear=linear)
        self.post_mlp_norm = norm()

    def __call__(self, x: jax.Array, context: VisionContext) -> jax.Array:
        """[N, L, W] -> [N, L, W]."""
        x = x + self.post_attention_norm(self.attention(self.pre_attention_norm(x), context))
        return x + self.post_mlp_norm(self.mlp(self.pre_mlp_norm(x)))


class VisionTower(nnx.Module):
    """From patches to soft tokens (docs/MODEL.md, Images).

    All parameters, with their axes and initial values. normal(n) has variance 1 / n. Those of the
    blocks are listed for one block. With config.clipped, each linear map of a block has the bounds
    of ClippedLinear too. Without config.standardize, there is no standardize.

        patch_projection.kernel       [P, W]       normal(P)
        position_table                [2, S, W]    normal, with deviation 0.02
        layers.N.pre_attention_norm.scale   [W]    ones
        layers.N.attention.q.kernel   [W, H h]     normal(W)
        layers.N.attention.k.kernel   [W, K h]     normal(W)
        layers.N.attention.v.kernel   [W, K h]     normal(W)
        layers.N.attention.o.kernel   [H h, W]     normal(H h)
        layers.N.attention.q_norm.scale     [h]    h^-0.5
        layers.N.attention.k_norm.scale     [h]    ones
        layers.N.post_attention_norm.scale  [W]    ones
        layers.N.pre_mlp_norm.scale   [W]          ones
        layers.N.mlp.gate.kernel      [W, F]       normal(W)
        layers.N.mlp.up.kernel        [W, F]       normal(W)
        layers.N.mlp.down.kernel      [F, W]       normal(F)
        layers.N.post_mlp_norm.scale  [W]          ones
        standardize.bias              [W]          zeros
        standardize.scale             [W]          ones
        projection.kernel             [W, D]       normal(W)

    Args:
      config: the shape of the tower.
      width: D, size of the text model's residual stream.
      rngs: source of the initial weights.
      dtype: dtype of weights and activations. Norms, softmax and pooling are float32 inside.
    """

    def __init__(
        self,
        config: VisionConfig,
        width: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.config, rngs = config, _Keys(rngs.params())
        self.patch_projection = Linear(config.patch_values, config.width, rngs=rngs, dtype=dtype)
        table = nnx.initializers.normal(0.02)(
            rngs.params(), (2, config.num_places, config.width), dtype
        )
        self.position_table = nnx.Param(table)
        self.layers = nnx.List(
            [VisionBlock(config, rngs=rngs, dtype=dtype) for _ in range(config.num_layers)]
        )
        self.standardize = nnx.data(None)
        if config.standardize:
            self.standardize = Standardize(config.width, dtype=dtype)
        self.projection = Linear(config.width, width, rngs=rngs, dtype=dtype)

    def __call__(self, images: Images) -> tuple[jax.Array, jax.Array]:
        """Computes the soft tokens of images.

        Args:
          images: [N, L, P] patches; the numbers of columns and rows of each image are multiples of
            config.pool_size, and so L of its square.

        Returns:
          [N, M, D] in the weights' dtype, the soft tokens of each image row by row; and [N] int32,
          how many of the M = L / pool_size^2 an image has. What follows them means nothing.
        """
        x = self.encode_patches(images)
        pooled, counts = pool(x, jnp.asarray(images.positions), self.config.pool_size)
        if self.standardize is not None:
            pooled = self.standardize(pooled)
        normed = rms_norm(pooled.astype(x.dtype), self.config.norm_eps).astype(x.dtype)
        return self.projection(normed), counts

    def encode_patches(self, images: Images) -> jax.Array:
        """The states of the patches after the last block: [N, L, W]. They mean nothing at padding.

        Args:
          images: as for the call.
        """
        positions, half = jnp.asarray(images.positions), self.config.head_dim // 2
        context = VisionContext(
            by_x=rope_table(positions[..., 0], half, self.config.rope_theta),
            by_y=rope_table(positions[..., 1], half, self.config.rope_theta),
            keys=jnp.where(is_real(positions), 0, -1),
        )
        x = self._embed(images)
        for block in self.layers:
            x = block(x, context)
        return x

    def _embed(self, images: Images) -> jax.Array:
        """[N, L, W], the patches before the first block."""
        table = self.position_table[...]
        centred = 2 * (jnp.asarray(images.patches, jnp.float32) - 0.5)
        x = self.patch_projection(centred.astype(self.patch_projection.kernel[...].dtype))
        positions = jnp.asarray(images.positions)
        at_x, at_y = (jnp.maximum(positions[..., axis], 0) for axis in (0, 1))
        place = table[0][at_x] + table[1][at_y]
        return x + jnp.where(is_real(positions)[..., None], place, 0).astype(x.dtype)
