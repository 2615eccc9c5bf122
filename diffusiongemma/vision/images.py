"""Images on their way into the model, and where their soft tokens go in a text.

An image becomes soft tokens (tower.py). They take the places of the text's image tokens: the first
image has the first image tokens of the batch, row by row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma.vision.config import VisionConfig


class Images(NamedTuple):
    """The images of a batch, in the order of their image tokens, row by row.

    Images of different sizes are padded to L patches. An image of padding alone has no soft token.

    Attributes:
      patches: [N, L, P] float32 in [0, 1], the pixels of each patch: 16 x 16 x 3, (y, x, channel).
        Zeros at padding.
      positions: [N, L, 2] int32, the column and the row (x, y) of each patch; -1 at padding.
    """

    patches: jax.Array | np.ndarray
    positions: jax.Array | np.ndarray


class SoftTokens(NamedTuple):
    """What the tower made of images, and which token of a text has which of it.

    Attributes:
      values: [S, D], soft tokens. Some of them may be padding, which no token has.
      index: [B, T] int32, the place in `values` of each image token; -1 at all other tokens. S or
        more at an image token for which there is no soft token.
    """

    values: jax.Array
    index: jax.Array | np.ndarray


def is_real(positions: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Which patches are no padding: positions [..., 2] int32 -> [...] bool."""
    return (positions >= 0).all(axis=-1)


def image_tokens(
    config: VisionConfig, tokens: jax.Array | np.ndarray, mask: jax.Array | np.ndarray | None
) -> jax.Array | np.ndarray:
    """Which tokens of a text stand for soft tokens.

    Args:
      config: of the tower.
      tokens: [B, T] int32.
      mask: [B, T] bool, True at real tokens; None if all are real.

    Returns:
      [B, T] bool.
    """
    is_image = tokens == config.image_id
    return is_image if mask is None else is_image & mask


def soft_index(is_image: jax.Array, counts: jax.Array, room: int) -> jax.Array:
    """The soft token of each image token, as SoftTokens.index has it.

    Args:
      is_image: [B, T] bool, from image_tokens.
      counts: [N] int32, soft tokens of each image.
      room: M, places that each image has in the array of soft tokens, [N M, D].

    Returns:
      [B, T] int32.
    """
    order = jnp.cumsum(is_image.reshape(-1), dtype=jnp.int32) - 1
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    image = jnp.searchsorted(ends, order, side="right").astype(jnp.int32)
    before = jnp.concatenate([jnp.zeros(1, jnp.int32), ends])[image]
    index = image * room + order - before  # behind the last image it is N M or more
    return jnp.where(is_image, index.reshape(is_image.shape), -1)


def with_soft_tokens(embedded: jax.Array, soft: SoftTokens) -> jax.Array:
    """Puts soft tokens in the places of the embeddings of image tokens.

    They are not multiplied by sqrt(D), as embeddings are. An image token that has no soft token
    becomes NaN: in a compiled program, no error can be raised for it.

    Args:
      embedded: [B, T, D], the embedded tokens.
      soft: the soft tokens.

    Returns:
      [B, T, D].
    """
    values = soft.values.astype(embedded.dtype)
    found = jnp.take(values, soft.index, axis=0, mode="fill", fill_value=jnp.nan)
    return jnp.where((soft.index >= 0)[..., None], found, embedded)


def check_images(
    config: VisionConfig | None,
    images: Images,
    tokens: jax.Array | np.ndarray,
    mask: jax.Array | np.ndarray | None,
) -> None:
    """Checks that images fit the tower and the image tokens; traced values are not checked.

    Args:
      config: of the tower; None if the model has none.
      images: the images.
      tokens: [B, T] int32, the text.
      mask: [B, T] bool, True at real tokens; None if all are real.

    Raises:
      ValueError: the model has no tower, shapes are wrong, an image is no grid of whole squares,
        or there are more or fewer soft tokens than image tokens.
    """
    if config is None:
        raise ValueError("the model has no vision tower, so it takes no images")
    shape, places = images.patches.shape, images.positions.shape
    if len(shape) != 3 or shape[2] != config.patch_values or places != (*shape[:2], 2):
        raise ValueError(
            f"images: expected patches [N, L, {config.patch_values}] and positions [N, L, 2], got "
            f"{list(shape)} and {list(places)}"
        )
    if any(isinstance(x, jax.core.Tracer) for x in (images.positions, tokens, mask)):
        return
    counts = soft_counts(config, np.asarray(images.positions))
    given, wanted = int(counts.sum()), int(np.asarray(image_tokens(config, tokens, mask)).sum())
    if given != wanted:
        raise ValueError(
            f"images: the text has {wanted} image tokens ({config.image_id}), and the "
            f"{len(counts)} images have {given} soft tokens"
        )


def soft_counts(config: VisionConfig, positions: np.ndarray) -> np.ndarray:
    """The number of soft tokens of each image, on the host: [N, L, 2] int32 -> [N] int32.

    Raises:
      ValueError: an image is no grid of whole squares, or is larger than the tables of positions.
    """
    real, size = is_real(positions), config.pool_size
    for i, image in enumerate(positions):
        patches = image[real[i]]
        columns, rows = patches.max(axis=0) + 1 if len(patches) else (0, 0)
        places = np.unique(patches[:, 0] + columns * patches[:, 1])
        whole = len(places) == len(patches) == columns * rows
        if not whole or columns % size or rows % size:
            raise ValueError(
                f"images: image {i + 1} has {len(patches)} patches in {columns} columns and {rows} "
                f"rows; its sides must be multiples of {size} patches, and no patch may be missing "
                "or be there twice"
            )
        if max(columns, rows) > config.num_places:
            raise ValueError(
                f"images: image {i + 1} is {columns} x {rows} patches, and the model knows "
                f"{config.num_places} positions a side"
            )
    return real.sum(axis=1, dtype=np.int32) // size**2
