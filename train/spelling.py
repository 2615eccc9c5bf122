"""The loss that teaches a vision tower to spell, without the text model's layers.

A transcript has its tokens in the order in which they stand in the image. If an image has as many
soft tokens as its transcript has tokens, soft token i is to be read as token i. This loss asks just
that. A step costs a third of one through the text model, and the gradient goes straight to the
soft tokens (docs/READING.md).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from diffusiongemma import DiffusionGemma, Images
from diffusiongemma.ops.reductions import argmax
from train.mean_loss import mean_loss


def spelling_loss(
    model: DiffusionGemma, images: Images, batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross-entropy of soft tokens that are read by the final norm and the head.

    Args:
      model: a model with a vision tower.
      images: the images of the B rows, one a row.
      batch: "tokens", "prompt_len" and "answer_len" as for sft_loss. Soft token i of a row's image
        is to be token i of the row's answer. Soft tokens behind the answer do not count.

    Returns:
      (loss, figures), float32 scalars: the loss in nats per token; "answer_tokens", the share of
      soft tokens that count, and "answer_right", the share that count and whose most probable token
      is the right one. "fill_tokens" and "fill_right" are 0: there is no fill.
    """
    soft, number = model.vision(images)
    logits = model.to_logits(model.final_norm(soft))
    places = jnp.arange(soft.shape[1])
    counts = places < jnp.minimum(number, batch["answer_len"])[:, None]
    at = batch["prompt_len"][:, None] + places
    targets = jnp.take_along_axis(batch["tokens"], at, axis=1)
    right = counts & (argmax(logits) == targets)
    none = jnp.zeros(())
    return mean_loss(logits, targets, counts), {
        "answer_tokens": jnp.mean(counts),
        "answer_right": jnp.mean(right),
        "fill_tokens": none,
        "fill_right": none,
    }
