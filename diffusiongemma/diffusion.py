"""The noise process: uniform corruption, the initial canvas, the temperature (TR alg. 1)."""

import jax
import jax.numpy as jnp


def initial_canvas(key: jax.Array, shape: tuple[int, ...], vocab_size: int) -> jax.Array:
    """Uniform noise over the vocabulary, int32."""
    return jax.random.randint(key, shape, 0, vocab_size, jnp.int32)


def temperature(t: jax.Array | float, lowest: float = 0.4, highest: float = 0.8):
    """tau(t) = lowest + (highest - lowest) t; t runs from 1 (noise) down to 1/N."""
    return lowest + (highest - lowest) * t


def noise_levels(key: jax.Array, num: int) -> jax.Array:
    """[num] float32 levels t, each U(0, 1) and one in every num-th part of it, in random order.

    Stratified: the mean of a loss over them varies less than with independent levels (the idea of
    the low-discrepancy sampler of Variational Diffusion Models, Kingma et al. 2021).
    """
    place, order = jax.random.split(key)
    part = jax.random.permutation(order, num)
    return (part + jax.random.uniform(place, (num,))) / num


def corrupt(key: jax.Array, tokens: jax.Array, t: jax.Array, vocab_size: int) -> jax.Array:
    """Replaces each token, with probability t, by a uniform token of the vocabulary.

    Args:
      key: for the choice of places and of tokens.
      tokens: [B, C] int32, clean.
      t: [B] float32 in [0, 1]; 0 is the identity, 1 is uniform noise.
      vocab_size: V.

    Returns:
      [B, C] int32.
    """
    where, what = jax.random.split(key)
    replaced = jax.random.uniform(where, tokens.shape) < t[:, None]
    return jnp.where(replaced, initial_canvas(what, tokens.shape, vocab_size), tokens)
