"""The noise process: uniform corruption, the initial canvas, and the temperature (TR alg. 1)."""

import jax
import jax.numpy as jnp


def initial_canvas(key: jax.Array, shape: tuple[int, ...], vocab_size: int) -> jax.Array:
    """Tokens that are uniform over the vocabulary, int32 of the given shape."""
    return jax.random.randint(key, shape, 0, vocab_size, jnp.int32)


def temperature(
    t: jax.Array | float, lowest: float = 0.4, highest: float = 0.8
) -> jax.Array | float:
    """tau(t) = lowest + (highest - lowest) t, where t falls from 1 (noise) to 1/N."""
    return lowest + (highest - lowest) * t


def noise_levels(key: jax.Array, num: int, power: float = 1.0) -> jax.Array:
    """Noise levels for `num` canvases, stratified.

    Each level is U(0, 1), and each of the `num` equal parts of (0, 1) holds one of them, in random
    order. The mean of a loss over them varies less than with independent levels. The idea is that
    of the low-discrepancy sampler of Variational Diffusion Models (Kingma et al. 2021).

    Args:
      key: PRNG key.
      num: number of levels.
      power: p above 0: the density of a level t is p t^(p - 1), so a larger p makes more of the
        levels high. The parts then hold equal shares of the levels.

    Returns:
      [num] float32.
    """
    place, order = jax.random.split(key)
    part = jax.random.permutation(order, num)
    levels = (part + jax.random.uniform(place, (num,))) / num
    return levels if power == 1 else levels ** (1 / power)


def corrupt(key: jax.Array, tokens: jax.Array, t: jax.Array, vocab_size: int) -> jax.Array:
    """Replaces each token, with probability t, by a uniform token of the vocabulary.

    Args:
      key: PRNG key.
      tokens: [B, C] int32, clean.
      t: [B] float32 in [0, 1]; 0 changes nothing, 1 gives uniform noise.
      vocab_size: V.

    Returns:
      [B, C] int32.
    """
    where, what = jax.random.split(key)
    replaced = jax.random.uniform(where, tokens.shape) < t[:, None]
    return jnp.where(replaced, initial_canvas(what, tokens.shape, vocab_size), tokens)
