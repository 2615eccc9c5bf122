"""One denoising step (TR alg. 1): entropies, the entropy-bounded acceptance, re-noising."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.diffusion import initial_canvas
from diffusiongemma.head import DrawNoise, block_size
from sample.prefill import CHUNK


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """How to sample; the defaults are the published ones (TR alg. 1).

    Attributes:
      max_steps: N, denoising steps that a canvas may take.
      entropy_bound: b, nats; the sum of entropies up to which a step accepts draws.
      stop_threshold: e, nats; the mean entropy of a canvas at which it may stop.
      min_temperature, max_temperature: tau(t) = min + (max - min) t, t = 1, 1 - 1/N, ..., 1/N.
      early_stop: False makes every canvas take N steps.
      max_new_tokens: tokens to generate, kept to the token; None for one canvas.
      canvas_size: C; None for the model's.
      stop_ids: tokens that end a generation; None for the model's, () for none.
      trajectory: record every step.
      prefill_chunk: prompt columns read at a time, at most; None for all.

    Raises:
      ValueError: a field out of range.
    """

    max_steps: int = 48
    entropy_bound: float = 0.1
    stop_threshold: float = 0.005
    min_temperature: float = 0.4
    max_temperature: float = 0.8
    early_stop: bool = True
    max_new_tokens: int | None = None
    canvas_size: int | None = None
    stop_ids: tuple[int, ...] | None = None
    trajectory: bool = False
    prefill_chunk: int | None = CHUNK

    def __post_init__(self):
        for name in ("max_steps", "max_new_tokens", "canvas_size", "prefill_chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name in ("entropy_bound", "stop_threshold"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        low, high = self.min_temperature, self.max_temperature
        if not 0 < low <= high:
            raise ValueError(f"temperatures must be 0 < min <= max, got min {low} and max {high}")
        if self.stop_ids is not None:
            object.__setattr__(self, "stop_ids", tuple(self.stop_ids))


class Step(NamedTuple):
    """What one step makes of a canvas.

    Attributes:
      best: [B, C] int32, the most probable token of every position.
      entropy: [B, C] float32, nats, of the tempered distributions.
      accepted: [B, C] bool, where the next canvas keeps this step's draw.
      canvas: [B, C] int32, the next step's noisy canvas.
      soft: [B, C, D], the next step's self-conditioning.
    """

    best: jax.Array
    entropy: jax.Array
    accepted: jax.Array
    canvas: jax.Array
    soft: jax.Array


def accept(entropy: jax.Array, bound: float) -> jax.Array:
    """The positions that keep their draw (TR alg. 1).

    Positions are ordered by entropy ascending, ties by position; accepted is the longest prefix
    whose entropies, without the last one's own, sum to at most the bound: always at least one.

    Args:
      entropy: [B, C] float32, nats.
      bound: b >= 0, nats.

    Returns:
      [B, C] bool.
    """
    order = jnp.argsort(entropy, axis=-1, stable=True)
    ascending = jnp.take_along_axis(entropy, order, axis=-1)
    before = jnp.cumsum(ascending[:, :-1], axis=-1)
    keep = jnp.pad(before <= bound, ((0, 0), (1, 0)), constant_values=True)
    return jnp.put_along_axis(jnp.zeros_like(keep), order, keep, axis=-1, inplace=False)


def draw_noise(keys: jax.Array, canvas_size: int, vocab_size: int) -> DrawNoise:
    """Noise of a draw at every position; each row's comes from its own key [B]."""
    blocks = vocab_size // block_size(vocab_size)

    def row(key: jax.Array) -> DrawNoise:
        block, token = jax.random.split(key)
        return DrawNoise(
            jax.random.gumbel(block, (canvas_size, blocks), jnp.float32),
            jax.random.uniform(token, (canvas_size,), jnp.float32),
        )

    return jax.vmap(row)(keys)


def noise(keys: jax.Array, canvas_size: int, vocab_size: int) -> jax.Array:
    """A uniformly random canvas for each row's key: keys [B] -> [B, C] int32."""
    return jax.vmap(lambda key: initial_canvas(key, (canvas_size,), vocab_size))(keys)


def denoise_step(
    model, canvas: jax.Array, soft: jax.Array, cache, keys: jax.Array, temperature, bound: float
) -> Step:
    """Predicts the clean canvas, and makes the next noisy one out of it.

    Args:
      model: gives config and predict.
      canvas: [B, C] int32.
      soft: [B, C, D], zeros at the first step.
      cache: the model's context; only read.
      keys: [B] PRNG keys of this step.
      temperature: tau(t), a scalar.
      bound: the entropy bound, nats.
    """
    size, vocab_size = canvas.shape[1], model.config.vocab_size
    draw_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    found = model.predict(canvas, cache, soft, temperature, draw_noise(draw_keys, size, vocab_size))
    accepted = accept(found.entropy, bound)
    return Step(
        best=found.best,
        entropy=found.entropy,
        accepted=accepted,
        canvas=jnp.where(accepted, found.drawn, noise(noise_keys, size, vocab_size)),
        soft=found.soft,
    )
