"""The mean cross-entropy of those tokens that count."""

import jax
import jax.numpy as jnp
import optax


def mean_loss(logits: jax.Array, targets: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean cross-entropy of the counted tokens, in nats; a float32 scalar.

    Args:
      logits: [B, N, V] float32.
      targets: [B, N] int32, the right tokens.
      counts: [B, N] bool, which tokens count. At least one must.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.sum(losses * counts) / jnp.sum(counts)
