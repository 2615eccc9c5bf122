"""Pooling: from the states of patches to one state for each square of patches."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import Precision
from jax.typing import DTypeLike

from diffusiongemma.vision.images import is_real


def pool(x: jax.Array, positions: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The mean over size x size patches by their positions, times sqrt(W).

    Args:
      x: [N, L, W], the patches' states.
      positions: [N, L, 2] int32, (x, y); -1 at padding.
      size: patches along a side of a square. It divides the columns and rows of every image.

    Returns:
      [N, M, W] float32, the squares of each image row by row, M = L / size^2; and [N] int32, the
      number of an image's squares. Zeros follow them.
    """
    real = is_real(positions)
    columns = (jnp.max(positions[..., 0], axis=1, keepdims=True) + 1) // size
    square = positions // size
    square = square[..., 0] + columns * square[..., 1]
    room = x.shape[1] // size**2
    # A product of matrices adds in the same order every time, which a scatter does not on GPUs.
    member = jax.nn.one_hot(jnp.where(real, square, -1), room, dtype=jnp.float32)
    sums = jnp.einsum("nlm,nlw->nmw", member, x.astype(jnp.float32), precision=Precision.HIGHEST)
    count = real.sum(axis=1, dtype=jnp.int32) // size**2
    return sums * (x.shape[-1] ** 0.5 / size**2), count


class Standardize(nnx.Module):
    """(x - bias) * scale in float32.

    Attributes:
      bias: [W], zeros at first.
      scale: [W], ones at first.
    """

    def __init__(self, width: int, *, dtype: DTypeLike = jnp.float32):
        self.bias = nnx.Param(jnp.zeros((width,), dtype))
        self.scale = nnx.Param(jnp.ones((width,), dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., W] float32 -> [..., W] float32."""
        return (x - self.bias[...].astype(jnp.float32)) * self.scale[...].astype(jnp.float32)
