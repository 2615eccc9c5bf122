"""The images of a batch of prompts: which row has which, and what the vision tower makes of them.

Images come in the order of their tokens, row by row. Equal images go through the tower once, also
those of different rows, so that several answers to a prompt cost no more than one.
"""

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma import Images, ModelConfig
from diffusiongemma.vision.config import VisionConfig
from diffusiongemma.vision.images import (
    SoftTokens,
    check_images,
    image_tokens,
    is_real,
    soft_counts,
)
from sample.batch import bucket
from sample.split_model import SplitModel

# Soft tokens to which an image is padded, so that one program serves images of many shapes. Images
# nearly fill the model's budgets (70 to 1120), whatever their shape is.
ROOMS = (16, 32, 70, 140, 280, 560, 1120)


class _Places(NamedTuple):
    """Where the images of a batch are.

    Attributes:
      counts: [N] int32, soft tokens of each image.
      ends: [N] int64, image tokens of the batch up to the end of each image.
      is_image: [B, T] bool, the image tokens.
    """

    counts: np.ndarray
    ends: np.ndarray
    is_image: np.ndarray


def _places(
    vision: VisionConfig, images: Images, tokens: np.ndarray, mask: np.ndarray | None
) -> _Places:
    counts = soft_counts(vision, np.asarray(images.positions))
    return _Places(counts, np.cumsum(counts), np.asarray(image_tokens(vision, tokens, mask)))


def contents(images: Images) -> list[bytes]:
    """A hash of each image, on which its padding has no effect."""
    found = []
    for patches, positions in zip(*map(np.asarray, images), strict=True):
        real = is_real(positions)
        data = patches[real].tobytes() + positions[real].tobytes()
        found.append(hashlib.sha256(data).digest())
    return found


def row_contents(
    config: ModelConfig, images: Images | None, tokens: np.ndarray, mask: np.ndarray
) -> list[bytes]:
    """The hashes of the images of each row, in one piece; b"" for a row without images.

    Raises:
      ValueError: the images do not fit the model and the tokens.
    """
    found = [b""] * len(tokens)
    if images is None:
        return found
    check_images(config.vision, images, tokens, mask)
    counts, ends, is_image = _places(config.vision, images, tokens, mask)
    rows = np.searchsorted(is_image.sum(axis=1).cumsum(), ends - counts, side="right")
    for row, count, content in zip(rows, counts, contents(images), strict=True):
        if count:
            found[row] += content
    return found


def see(model: SplitModel, images: Images, tokens: np.ndarray, mask: np.ndarray) -> SoftTokens:
    """The soft tokens of images that fit the model and the tokens.

    The tower takes one image at a time, so it needs the memory of one, however many there are.

    Args:
      model: the model, split.
      images: the images, on the host.
      tokens: [B, T] int32.
      mask: [B, T] bool, True at real tokens.

    Returns:
      the soft tokens. Their index is on the host.
    """
    vision = model.config.vision
    counts, ends, is_image = _places(vision, images, tokens, mask)
    starts: dict[bytes, int] = {}  # content -> where its soft tokens begin
    hashes, seen, size = contents(images), [], 0
    for i, content in enumerate(hashes):
        if not counts[i] or content in starts:
            continue
        room = next((room for room in ROOMS if room >= counts[i]), int(counts[i]))
        seen.append(_see_one(model, _padded(images, i, room * vision.pool_size**2)))
        starts[content], size = size, size + room
    if not seen:  # all images are padding
        return SoftTokens(jnp.zeros((1, model.config.width)), np.full(tokens.shape, -1, np.int32))
    whole = bucket(size, size * 2)  # one program reads prompts with few images and with more
    values = jnp.concatenate([*seen, jnp.zeros((whole - size, *seen[0].shape[1:]), seen[0].dtype)])
    order = is_image.cumsum().reshape(is_image.shape) - 1
    image = np.searchsorted(ends, order, side="right").clip(max=len(counts) - 1)
    begin = np.array([starts.get(content, 0) for content in hashes])
    index = begin[image] + order - (ends - counts)[image]
    return SoftTokens(values, np.where(is_image, index, -1).astype(np.int32))


def _padded(images: Images, i: int, length: int) -> Images:
    """Image i alone, padded to a number of patches."""
    patches, positions = (np.asarray(array[i]) for array in images)
    real = is_real(positions)
    more = (0, length - int(real.sum())), (0, 0)
    return Images(
        np.pad(patches[real], more)[None], np.pad(positions[real], more, constant_values=-1)[None]
    )


@jax.jit
def _see_one(model: SplitModel, image: Images) -> jax.Array:
    """The soft tokens of one image, [M, D], with padding behind them."""
    return model.merge().vision(image)[0][0]


class Pictures:
    """The images of one prompt, found by where their tokens are.

    Args:
      model: the model, split.
      prompt: [P] int32, the real tokens.
      images: the images; None if there are none.
    """

    def __init__(self, model: SplitModel, prompt: np.ndarray, images: Images | None):
        self._images = images
        if images is not None:
            _, self._ends, is_image = _places(model.config.vision, images, prompt, None)
            self._before = np.append(0, is_image.cumsum())

    def between(self, start: int, end: int) -> Images | None:
        """The images whose tokens are from place `start` to `end`; None if there are none."""
        if self._images is None:
            return None
        first, last = (
            int(np.searchsorted(self._ends, self._before[at], side="right")) for at in (start, end)
        )
        return Images(*(array[first:last] for array in self._images)) if last > first else None

    def contents(self, end: int) -> list[bytes]:
        """A hash of each of the images before place `end`."""
        images = self.between(0, end)
        return [] if images is None else contents(images)
