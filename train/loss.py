"""The two losses of supervised fine-tuning (SPEC section 3): denoising and next token."""

import dataclasses
import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax

from diffusiongemma import DiffusionGemma
from diffusiongemma.attention import KVCache
from diffusiongemma.diffusion import corrupt, noise_levels
from diffusiongemma.ops.reductions import argmax

Targets = Literal["all", "answer"]


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What a training example consists of, and how its losses are weighted.

    Attributes:
      canvas_size: C.
      num_canvases: K, canvases that a row of the batch has room for.
      noise_draws: M, noisy versions of the chosen canvas for one encoding of the row. The published
        recipe has 1; more of them share the cost of the encoder.
      self_conditioning: part of the noisy canvases that get a soft embedding from a first pass.
      passes: n of these at most: equal shares of the canvases get 1, 2, ... n passes, each with the
        soft embeddings of the one before, as the sampler's steps have. The published recipe has 1.
      pass_temperature: divides the logits of these passes, as the sampler's do; 1 as published.
      encoder_weight: weight of the encoder's next-token loss; with 0 it is not computed, nor the
        last layer's attention over the text, which nothing else needs.
      encoder_targets: the tokens that loss counts: "all" of the row's, as published, or those of
        the "answer", from its first one on, which the prompt's last token predicts.
    """

    canvas_size: int
    num_canvases: int = 1
    noise_draws: int = 1
    self_conditioning: float = 0.5
    passes: int = 1
    pass_temperature: float = 1.0
    encoder_weight: float = 1.0
    encoder_targets: Targets = "all"

    def __post_init__(self):
        if self.encoder_targets not in get_args(Targets):
            raise ValueError(
                f"loss.encoder_targets is 'all' or 'answer', not '{self.encoder_targets}'"
            )
        conditioned = self.noise_draws * self.self_conditioning
        if self.noise_draws > 1 and conditioned != round(conditioned):
            raise ValueError(
                f"loss.self_conditioning {self.self_conditioning} of {self.noise_draws} noise "
                "draws is no whole number of them"
            )
        if self.passes < 1 or (self.passes > 1 and conditioned % self.passes):
            raise ValueError(
                f"the {conditioned:g} canvases that get a first pass (loss.noise_draws x "
                f"loss.self_conditioning) are not to be shared out over {self.passes} passes"
            )
        if not self.pass_temperature > 0:
            raise ValueError(f"loss.pass_temperature must be above 0, not {self.pass_temperature}")


def sft_loss(
    model: DiffusionGemma, batch: dict[str, jax.Array], key: jax.Array, config: LossConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of one batch.

    Each row is encoded once; one of its canvases, chosen uniformly, sees what comes before it
    through the cache, and is denoised from M noise levels t ~ U(0, 1).

    Args:
      model: in any dtype.
      batch: "tokens" [B, P + K C] int32 (prompt, then canvases, then padding), "prompt_len" [B] and
        "num_canvases" [B] int32.
      key: for canvas choice, noise levels and noise.
      config: see LossConfig.

    Returns:
      the loss, and its parts: "denoise_loss" and (if it has a weight) "encoder_loss" in nats a
      token, "denoise_accuracy" (argmax right, over all tokens of the noisy canvases). All float32
      scalars.
    """
    tokens, size = batch["tokens"], config.canvas_size
    which_key, level_key, noise_key = jax.random.split(key, 3)
    encoder_loss, cache = _encoded(model, batch, config)

    which = jax.random.randint(which_key, batch["num_canvases"].shape, 0, batch["num_canvases"])
    start = batch["prompt_len"] + which * size
    clean = jnp.take_along_axis(tokens, start[:, None] + jnp.arange(size), axis=1)
    # The last canvas is nobody's context: its slots need not be looked at.
    num_slots = tokens.shape[1] - size
    layers = jax.tree.map(lambda x: x[:, :, :num_slots], cache.layers)
    context = cache._replace(layers=layers, length=start)
    clean = jnp.repeat(clean, config.noise_draws, axis=0)

    levels = noise_levels(level_key, clean.shape[0])
    noisy = corrupt(noise_key, clean, levels, model.config.vocab_size)
    soft = first_passes(model, noisy, context, config)
    logits = model.denoise(noisy, context, soft)
    denoise_loss = optax.softmax_cross_entropy_with_integer_labels(logits, clean).mean()

    accuracy = jnp.mean(argmax(logits) == clean)
    metrics = {"denoise_loss": denoise_loss, "denoise_accuracy": accuracy}
    if encoder_loss is None:
        return denoise_loss, metrics
    metrics["encoder_loss"] = encoder_loss
    return denoise_loss + config.encoder_weight * encoder_loss, metrics


def _encoded(
    model: DiffusionGemma, batch: dict[str, jax.Array], config: LossConfig
) -> tuple[jax.Array | None, KVCache]:
    """The next-token loss, None if it has no weight, and the cache."""
    tokens, size = batch["tokens"], config.canvas_size
    if not config.encoder_weight:
        return model.encode(tokens, logits="none")
    if config.encoder_targets == "answer":
        places = batch["prompt_len"][:, None] + jnp.arange(config.num_canvases * size)
        logits, cache = model.encode(tokens, logits=places - 1)
    else:
        places = jnp.arange(1, tokens.shape[1])[None]
        logits, cache = model.encode(tokens)
        logits = logits[:, :-1]
    targets = jnp.take_along_axis(tokens, places, axis=1)
    end = batch["prompt_len"] + batch["num_canvases"] * size
    return mean_loss(logits, targets, places < end[:, None]), cache


def mean_loss(logits: jax.Array, targets: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean cross-entropy, in nats, where it counts.

    Args:
      logits: [B, N, V] float32.
      targets: [B, N] int32.
      counts: [B, N] bool.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.sum(losses * counts) / jnp.sum(counts)


def first_passes(
    model: DiffusionGemma, noisy: jax.Array, context: KVCache, config: LossConfig
) -> jax.Array | None:
    """Soft embeddings [B M, C, D] for the trained pass: of those before it, or zeros; no gradient.

    Only the conditioned canvases are run through passes: the first of each example's M draws (which
    are exchangeable), or if M = 1, those of the batch's first examples. All of them take one pass,
    and of n passes each further one is taken by an n-th of them less.
    """
    rows, draws, passes = context.length.shape[0], config.noise_draws, config.passes
    axis = 0 if draws == 1 else 1  # the draws of an example share its context
    canvases = noisy.reshape(rows, draws, -1)
    conditioned = round(canvases.shape[axis] * config.self_conditioning)
    if not conditioned:
        return None
    soft = None
    for taken in range(passes):
        chosen = conditioned * (passes - taken) // passes
        first = functools.partial(
            jax.lax.slice_in_dim, start_index=0, limit_index=chosen, axis=axis
        )
        some = first(canvases)
        before = None if soft is None else first(soft).reshape(-1, *soft.shape[2:])
        behind = context if axis else jax.tree.map(first, context)
        found = model.predict(
            some.reshape(-1, some.shape[-1]), behind, before, config.pass_temperature
        ).soft
        found = found.reshape(*some.shape, -1)
        if soft is None:
            soft = jnp.zeros((*canvases.shape, found.shape[-1]), found.dtype)
        soft = jax.lax.dynamic_update_slice(soft, found, (0, 0, 0, 0))
    return jax.lax.stop_gradient(soft.reshape(*noisy.shape, -1))
