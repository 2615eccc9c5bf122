"""The two losses of supervised fine-tuning: denoising and next token (docs/MODEL.md, Losses).

Shapes: B rows of a batch, P tokens of room for a prompt, C tokens of a canvas, K canvases that a
row has room for, M noise draws, D width, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data.images.room import PATCHES, POSITIONS
from data.text.parts import NOTHING
from diffusiongemma import DiffusionGemma, Images
from diffusiongemma.attention import KVCache
from diffusiongemma.diffusion import corrupt, noise_levels
from diffusiongemma.ops.reductions import argmax
from sample.given import Given, certain_soft
from train.mean_loss import mean_loss
from train.spelling import spelling_loss

Targets = Literal["all", "answer"]
# Name -> float32 scalar: the figures of a training step.
Figures = dict[str, jax.Array]
SHARES = ("answer_tokens", "answer_right", "fill_tokens", "fill_right")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What a training example consists of, and how its losses are weighted.

    The defaults are the published recipe.

    Attributes:
      canvas_size: C, the number of tokens of a canvas.
      num_canvases: K, the number of canvases that a row of the batch has room for.
      noise_draws: M, the number of noisy versions of the chosen canvas. A row is encoded once for
        all of them, so that they share the cost of the encoder.
      noise_power: p, above 0. The density of a canvas's noise level t is p t^(p - 1). With 1 all
        levels are equally likely; with 2 the mean level is 2/3.
      self_conditioning: the share of noisy canvases, 0 to 1, that are first denoised without a
        gradient (a first pass), so that the trained pass gets soft embeddings. The other canvases
        get zeros.
      passes: n, the largest number of passes before the trained one. The canvases with first
        passes are divided into n equal groups; group i gets i passes. Each pass reads the soft
        embeddings that the pass before it made, as the sampler's steps do.
      pass_temperature: temperature of the soft embeddings that these passes make.
      encoder_weight: weight of the encoder's next-token loss. With 0 that loss is not computed,
        and the last layer's attention over the text, which only this loss needs, is left out too.
      encoder_targets: which tokens the encoder's loss counts: "all" tokens of the row but the
        first, or those of the "answer". The answer's first token counts too: the prompt's last
        token predicts it.
      spelling: whether the loss is that of spelling instead of the two losses (train/spelling.py).
        It trains the vision tower of a model that is to transcribe images, and leaves out the text
        model's layers.

    Raises:
      ValueError: a field is out of range, or the canvases with first passes cannot be divided
        equally.
    """

    canvas_size: int
    num_canvases: int = 1
    noise_draws: int = 1
    noise_power: float = 1.0
    self_conditioning: float = 0.5
    passes: int = 1
    pass_temperature: float = 1.0
    encoder_weight: float = 1.0
    encoder_targets: Targets = "all"
    spelling: bool = False

    def __post_init__(self) -> None:
        for name in ("canvas_size", "num_canvases", "noise_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"loss.{name} must be at least 1, not {getattr(self, name)}")
        if not self.noise_power > 0:
            raise ValueError(f"loss.noise_power must be above 0, not {self.noise_power}")
        if not 0 <= self.self_conditioning <= 1:
            raise ValueError(
                f"loss.self_conditioning must be from 0 to 1, not {self.self_conditioning}"
            )
        if self.encoder_targets not in get_args(Targets):
            raise ValueError(
                f"loss.encoder_targets must be 'all' or 'answer', not '{self.encoder_targets}'"
            )
        conditioned = self.noise_draws * self.self_conditioning
        if self.noise_draws > 1 and conditioned != round(conditioned):
            raise ValueError(
                f"loss.noise_draws x loss.self_conditioning = {conditioned:g} must be a whole "
                "number of canvases: change one of the two"
            )
        if self.passes < 1 or (self.passes > 1 and conditioned % self.passes):
            raise ValueError(
                f"loss.passes {self.passes} must be at least 1 and divide the number of canvases "
                f"that get a first pass, loss.noise_draws x loss.self_conditioning = "
                f"{conditioned:g}"
            )
        if not self.pass_temperature > 0:
            raise ValueError(f"loss.pass_temperature must be above 0, not {self.pass_temperature}")


def sft_loss(
    model: DiffusionGemma, batch: dict[str, jax.Array], key: jax.Array, config: LossConfig
) -> tuple[jax.Array, Figures]:
    """Loss of one batch (docs/MODEL.md, Losses).

    Each row is encoded once. One of its canvases is chosen uniformly. It is denoised from M noise
    levels t, and reads the tokens before it from the cache.

    Args:
      model: a model of any dtype.
      batch: "tokens" [B, P + K C] int32, each row a prompt, then canvases, then padding;
        "prompt_len" [B] int32, tokens of each prompt; "answer_len" [B] int32, tokens of each answer
        without the fill; "num_canvases" [B] int32, canvases of each row. If the task gives a part
        of its answers, also "given" [B, P + K C] int32 and "keep" [B, P + K C] bool
        (packing.pack). Then kept tokens are never noise, their soft embeddings are their own, and
        neither the denoising loss nor its figures count them. If the run has images, also "patches"
        [B, n, L, P] float32 and "positions" [B, n, L, 2] int32, the images of each row. Then the
        encoder's loss does not count image tokens.
      key: random key of the choice of canvases, the noise levels and the noise.
      config: the settings of the losses.

    Returns:
      (loss, figures), float32 scalars. Losses are in nats per token. The figures are
        denoise_loss: the denoising loss.
        encoder_loss: the encoder's loss, if encoder_weight is not 0.
        denoise_accuracy: the share of the noisy canvases' counted tokens for which the most
          probable token is the right one. All tokens count that are not kept.
        answer_tokens, fill_tokens: the share of all tokens that count and belong to the answer,
          and the share that count and belong to the eos fill behind it.
        answer_right, fill_right: the share of all tokens that belong there and are right.
      With config.spelling the loss and the figures are those of spelling_loss.
      Means of these figures over batches are those of all the batches' tokens. `accuracies` turns
      the last four into accuracies.
    """
    if config.spelling:
        return spelling_loss(model, batch_images(batch), batch)
    tokens, size = batch["tokens"], config.canvas_size
    which_key, level_key, noise_key = jax.random.split(key, 3)
    encoder_loss, cache = _encoded(model, batch, config)

    which = jax.random.randint(which_key, batch["num_canvases"].shape, 0, batch["num_canvases"])
    start = batch["prompt_len"] + which * size

    places = start[:, None] + jnp.arange(size)
    clean = jnp.take_along_axis(tokens, places, axis=1)
    # No canvas has the row's last canvas in its context, so its cache slots can be cut off.
    num_slots = tokens.shape[1] - size
    layers = jax.tree.map(lambda x: x[:, :, :num_slots], cache.layers)
    context = cache._replace(layers=layers, length=start)
    clean = jnp.repeat(clean, config.noise_draws, axis=0)
    given = free = None
    if "keep" in batch:
        chosen = (jnp.take_along_axis(batch[k], places, axis=1) for k in ("given", "keep"))
        given = Given(*(jnp.repeat(x, config.noise_draws, axis=0) for x in chosen))
        free = ~given.keep

    levels = noise_levels(level_key, clean.shape[0], config.noise_power)
    if given is None:
        noisy = corrupt(noise_key, clean, levels, model.config.vocab_size)
    else:
        noisy = corrupt_given(noise_key, clean, levels, model.config.vocab_size, given, config)
    soft = first_passes(model, noisy, context, config, given)
    logits = model.denoise(noisy, context, soft)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, clean)
    denoise_loss = _mean(losses, free)

    right = argmax(logits) == clean
    answer = which[:, None] * size + jnp.arange(size) < batch["answer_len"][:, None]
    answer = jnp.repeat(answer, config.noise_draws, axis=0)

    def counted(kind: jax.Array) -> jax.Array:
        return kind if free is None else kind & free

    figures = {
        "denoise_loss": denoise_loss,
        "denoise_accuracy": _mean(right, free),
        "answer_tokens": jnp.mean(counted(answer)),
        "answer_right": jnp.mean(counted(answer) & right),
        "fill_tokens": jnp.mean(counted(~answer)),
        "fill_right": jnp.mean(counted(~answer) & right),
    }
    if encoder_loss is None:
        return denoise_loss, figures
    figures["encoder_loss"] = encoder_loss
    return denoise_loss + config.encoder_weight * encoder_loss, figures


def accuracies(figures: Mapping[str, float]) -> dict[str, float]:
    """Turns means of sft_loss's figures into what a log shows.

    Returns:
      the figures, with "answer_accuracy" and "fill_accuracy" in the place of the shares that they
      are made of. Of the tokens of a kind, they are the share for which the most probable token is
      the right one. If there is no such token, the figure is missing.
    """
    shown = {name: value for name, value in figures.items() if name not in SHARES}
    for kind in ("answer", "fill"):
        if figures[f"{kind}_tokens"]:
            shown[f"{kind}_accuracy"] = figures[f"{kind}_right"] / figures[f"{kind}_tokens"]
    return shown


def _encoded(
    model: DiffusionGemma, batch: dict[str, jax.Array], config: LossConfig
) -> tuple[jax.Array | None, KVCache]:
    """Encodes the rows of a batch.

    Returns:
      (loss, cache): the mean next-token loss in nats, a float32 scalar, or None if its weight is 0;
      and the KV cache of all P + K C tokens.
    """
    tokens, size, images = batch["tokens"], config.canvas_size, batch_images(batch)
    seen = {} if images is None else {"images": images}  # a double of a model need not see any
    if not config.encoder_weight:
        return model.encode(tokens, logits="none", **seen)
    if config.encoder_targets == "answer":
        places = batch["prompt_len"][:, None] + jnp.arange(config.num_canvases * size)
        logits, cache = model.encode(tokens, logits=places - 1, **seen)
    else:
        places = jnp.arange(1, tokens.shape[1])[None]
        logits, cache = model.encode(tokens, **seen)
        logits = logits[:, :-1]
    targets = jnp.take_along_axis(tokens, places, axis=1)
    end = batch["prompt_len"] + batch["num_canvases"] * size
    counts = places < end[:, None]
    if images is not None:  # nothing can predict them, and they say nothing about an image
        counts &= targets != model.config.vision.image_id
    return mean_loss(logits, targets, counts), cache


def batch_images(batch: Mapping[str, jax.Array | np.ndarray]) -> Images | None:
    """The images of a batch in the order of its rows; None if the run has none.

    Args:
      batch: as for sft_loss.
    """
    if PATCHES not in batch:
        return None
    return Images(*(batch[k].reshape(-1, *batch[k].shape[2:]) for k in (PATCHES, POSITIONS)))


def _mean(values: jax.Array, counts: jax.Array | None) -> jax.Array:
    """The mean of the counted values; None counts all. It is 0 if none counts."""
    if counts is None:
        return jnp.mean(values)
    return jnp.sum(values * counts) / jnp.maximum(jnp.sum(counts), 1)


def corrupt_given(
    key: jax.Array,
    clean: jax.Array,
    levels: jax.Array,
    vocab_size: int,
    given: Given,
    config: LossConfig,
) -> jax.Array:
    """Makes noisy canvases of which some tokens are given.

    Kept tokens are never noise. Where a canvas starts from given tokens that may change, these
    stand in the place of the clean ones before the noise comes. The canvases of such a row that
    have no first pass get no noise: they are what the sampler's first step sees.

    Args:
      key: random key of the noise.
      clean: [B M, C] int32, the right tokens.
      levels: [B M] float32, the noise levels.
      vocab_size: V.
      given: what is given, [B M, C] each.
      config: the settings of the losses.

    Returns:
      [B M, C] int32.
    """
    changes = (given.tokens != NOTHING) & ~given.keep
    first_step = ~has_first_pass(len(clean), config) & changes.any(axis=1)
    levels = jnp.where(first_step, 0.0, levels)
    noisy = corrupt(key, jnp.where(changes, given.tokens, clean), levels, vocab_size)
    return jnp.where(given.keep, clean, noisy)


def has_first_pass(count: int, config: LossConfig) -> jax.Array:
    """Which of `count` noisy canvases get first passes, as first_passes chooses: [count] bool."""
    place, of = jnp.arange(count), count
    if config.noise_draws > 1:
        place, of = place % config.noise_draws, config.noise_draws
    return place < round(of * config.self_conditioning)


def first_passes(
    model: DiffusionGemma,
    noisy: jax.Array,
    context: KVCache,
    config: LossConfig,
    given: Given | None = None,
) -> jax.Array | None:
    """Makes the soft embeddings that the trained pass reads.

    Only some canvases are run through first passes: the first of each row's M draws, or with M = 1
    those of the batch's first rows. The draws of a row are exchangeable, so it does not matter
    which are taken. All of these canvases take the first pass. With n passes, each further pass
    leaves out another n-th of them.

    Args:
      model: the model that is trained.
      noisy: [B M, C] int32, the noisy canvases; the M draws of a row stand together.
      context: the cache of the B rows. Its length is where the row's canvas starts.
      config: the settings of the losses.
      given: what is given, [B M, C] each; None if nothing is. A kept token has its own embedding in
        the place of a soft one, at the first pass too, as in the sampler.

    Returns:
      [B M, C, D] in the model's dtype, zeros for canvases without a first pass; None if no canvas
      has one and nothing is given. No gradient flows through them.
    """
    rows, draws, passes = context.length.shape[0], config.noise_draws, config.passes
    axis = 0 if draws == 1 else 1  # a row's draws share its context, so they must stay together
    canvases = noisy.reshape(rows, draws, -1)
    conditioned = round(canvases.shape[axis] * config.self_conditioning)
    soft = None
    if given is not None:
        zeros = jnp.zeros((*noisy.shape, model.config.width), model.dtype)
        soft = certain_soft(zeros, model, *given).reshape(*canvases.shape, -1)
    if not conditioned:
        return None if soft is None else jax.lax.stop_gradient(soft.reshape(*noisy.shape, -1))
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
        if given is not None:
            kept = (first(x.reshape(canvases.shape)) for x in given)
            found = certain_soft(found, model, *kept)
        if soft is None:
            soft = jnp.zeros((*canvases.shape, found.shape[-1]), found.dtype)
        soft = jax.lax.dynamic_update_slice(soft, found, (0, 0, 0, 0))
    return jax.lax.stop_gradient(soft.reshape(*noisy.shape, -1))
