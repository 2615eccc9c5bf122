"""Reductions over the last axis that XLA compiles badly for CPUs when they are written plainly."""

import jax
import jax.numpy as jnp
from jax.lax import Precision


def sum_last(x: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Sum over the last axis in float32, as a matrix product.

    XLA's own reductions on CPUs take several times as long.

    Args:
      x: [..., n], any float dtype.
      weights: [n], a factor for each entry; None for ones.

    Returns:
      [..., 1] float32.
    """
    weights = jnp.ones(x.shape[-1:]) if weights is None else weights.astype(jnp.float32)
    return jnp.matmul(x.astype(jnp.float32), weights[:, None], precision=Precision.HIGHEST)


def argmax(x: jax.Array) -> jax.Array:
    """Index of the largest entry of the last axis, the first one if several are equal.

    Args:
      x: [..., V].

    Returns:
      [...] int32.
    """
    # Two plain reductions vectorise on CPUs; jnp.argmax does not, and takes 2.5 times as long.
    index = jnp.arange(x.shape[-1], dtype=jnp.int32)
    largest = x == jnp.max(x, axis=-1, keepdims=True)
    return jnp.min(jnp.where(largest, index, x.shape[-1]), axis=-1)
