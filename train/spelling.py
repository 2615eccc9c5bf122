"""The loss that teaches a vision tower to spell, without the text model's layers.

A transcript has its tokens in the order in which they stand in the image. If an image has as many
soft tokens as its transcript has tokens, soft token i is to be read as token i. This loss asks just
that, in two ways at once: the head is to tell token i from all others, and the soft token is to be
the embedding that the text model gets for token i in text. So the text model meets no new
embeddings. A step costs a third of one through the text model, and the gradient goes straight to
the soft tokens (docs/READING.md).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from diffusiongemma import DiffusionGemma, Images
from diffusiongemma.ops.reductions import argmax
from train.mean_loss import mean_loss

# The weight of embedding_error in the loss (docs/LOG.md, Soft tokens that are embeddings).
ERROR_WEIGHT = 4.0


def spelling_loss(
    model: DiffusionGemma, images: Images, batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of soft tokens at the head, and their distance from the tokens' embeddings.

    Args:
      model: a model with a vision tower.
      images: the images of the B rows, one a row.
      batch: "tokens", "prompt_len" and "answer_len" as for sft_loss. Soft token i of a row's image
        is to be token i of the row's answer. Soft tokens behind the answer do not count.

    Returns:
      (loss, figures), float32 scalars: the loss; "spelling_loss", the mean cross-entropy in nats of
      soft tokens that the final norm and the head read; "embedding_error", the squared distance
      from the soft tokens to the embeddings of the right tokens, as a share of the embeddings'
      square; "answer_tokens", the share of soft tokens that count, and "answer_right", the share
      that count and whose most probable token is the right one. "fill_tokens" and "fill_right" are
      0: there is no fill. The loss is spelling_loss + ERROR_WEIGHT x embedding_error. It has no
      gradient for the embeddings as targets.
    """
    soft, number = model.vision(images)
    logits = model.to_logits(model.final_norm(soft))
    places = jnp.arange(soft.shape[1])
    counts = places < jnp.minimum(number, batch["answer_len"])[:, None]
    at = batch["prompt_len"][:, None] + places
    targets = jnp.take_along_axis(batch["tokens"], at, axis=1)
    right = counts & (argmax(logits) == targets)
    spelling = mean_loss(logits, targets, counts)
    wanted = jax.lax.stop_gradient(model.embedder.encode(targets)).astype(jnp.float32)
    error = _square(soft.astype(jnp.float32) - wanted, counts) / _square(wanted, counts)
    none = jnp.zeros(())
    return spelling + ERROR_WEIGHT * error, {
        "spelling_loss": spelling,
        "embedding_error": error,
        "answer_tokens": jnp.mean(counts),
        "answer_right": jnp.mean(right),
        "fill_tokens": none,
        "fill_right": none,
    }


def _square(vectors: jax.Array, counts: jax.Array) -> jax.Array:
    """The sum of squares of the counted vectors [B, N, D]; counts [B, N] bool."""
    return jnp.sum(jnp.square(vectors) * counts[..., None])
