"""One denoising step (TR alg. 1): entropies, the entropy-bounded acceptance, re-noising."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.diffusion import initial_canvas


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
      prefill_chunk: prompt columns read at a time; None for all.

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
    prefill_chunk: int | None = None

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


def entropy(logits: jax.Array) -> jax.Array:
    """Entropy in nats of softmax(logits) over the last axis: [..., V] -> [...] float32.

    A logit of -inf counts as probability 0 and adds nothing.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    p = jnp.exp(log_p)
    return -jnp.sum(jnp.where(p > 0, p * log_p, 0.0), axis=-1)


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


def argmax(x: jax.Array) -> jax.Array:
    """Index of the largest of the last axis, the first if several: [..., V] -> [...] int32."""
    # Two plain reductions vectorise on CPU; jnp.argmax does not, and takes 2.5 times as long.
    index = jnp.arange(x.shape[-1], dtype=jnp.int32)
    largest = x == jnp.max(x, axis=-1, keepdims=True)
    return jnp.min(jnp.where(largest, index, x.shape[-1]), axis=-1)


def draw(keys: jax.Array, logits: jax.Array) -> jax.Array:
    """A token at every position, by Gumbel-max: keys [B], logits [B, C, V] -> [B, C] int32.

    Each row has its own key, so that what it draws does not depend on its neighbours.
    """
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:], jnp.float32))(keys)
    return argmax(logits.astype(jnp.float32) + noise)


def noise(keys: jax.Array, canvas_size: int, vocab_size: int) -> jax.Array:
    """A uniformly random canvas for each row's key: keys [B] -> [B, C] int32."""
    return jax.vmap(lambda key: initial_canvas(key, (canvas_size,), vocab_size))(keys)


def denoise_step(
    model, canvas: jax.Array, soft: jax.Array, cache, keys: jax.Array, temperature, bound: float
) -> Step:
    """Predicts the clean canvas, and makes the next noisy one out of it.

    Args:
      model: gives denoise and soft_embed.
      canvas: [B, C] int32.
      soft: [B, C, D], zeros at the first step.
      cache: the model's context; only read.
      keys: [B] PRNG keys of this step.
      temperature: tau(t), a scalar.
      bound: the entropy bound, nats.
    """
    logits = model.denoise(canvas, cache, soft)
    tempered = logits / temperature
    uncertainty = entropy(tempered)
    accepted = accept(uncertainty, bound)
    draw_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    drawn = draw(draw_keys, tempered)
    fresh = noise(noise_keys, canvas.shape[1], logits.shape[-1])
    return Step(
        best=argmax(logits),
        entropy=uncertainty,
        accepted=accepted,
        canvas=jnp.where(accepted, drawn, fresh),
        soft=model.soft_embed(tempered),
    )
