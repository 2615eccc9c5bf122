"""Cuts images into the patches that the vision tower reads, as docs/IMAGES.md defines it.

An image is resized so that its sides are whole numbers of soft tokens and their product is at most
a budget; its shape stays nearly the same. It is then cut into patches, row by row.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

BUDGETS = (70, 140, 280, 560, 1120)  # the soft tokens that the released model was trained with
USUAL_BUDGET, FRAME_BUDGET = 280, 70  # of an image, and of a frame of a video
PATCH_SIZE = 16  # pixels along a side of a patch
POOL_SIZE = 3  # patches along a side of the square that becomes one soft token


class Patches(NamedTuple):
    """An image in pieces, or several of them with an axis N in front.

    `diffusiongemma.Images(*patches)` is what the model takes.

    Attributes:
      patches: [L, P] float32 in [0, 1], the pixels of each patch: 16 x 16 x 3, (y, x, channel).
      positions: [L, 2] int32, the column and the row (x, y) of each patch.
    """

    patches: np.ndarray
    positions: np.ndarray


def fitted_size(
    height: int,
    width: int,
    soft_tokens: int,
    patch_size: int = PATCH_SIZE,
    pool_size: int = POOL_SIZE,
) -> tuple[int, int]:
    """The size to which an image is resized.

    The area is that of `soft_tokens` squares, or less. Each side is rounded down to whole squares.
    A side that would become 0 is one square. The other side then is as many squares as it is times
    longer, or `soft_tokens` squares.

    Args:
      height, width: of the image, in pixels.
      soft_tokens: the largest number of soft tokens.
      patch_size: pixels along a side of a patch.
      pool_size: patches along a side of a square, which becomes one soft token.

    Returns:
      (height, width) in pixels, multiples of patch_size * pool_size.

    Raises:
      ValueError: the image has no pixels, or it would have none.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image of {width} x {height} pixels has no pixels")
    # The roundings of these floating-point numbers decide, so their order is the reference's.
    scale = math.sqrt(soft_tokens * pool_size**2 * patch_size**2 / (height * width))
    square = patch_size * pool_size
    rows, columns = (math.floor(scale * side / square) for side in (height, width))
    if not rows and not columns:
        raise ValueError(f"{soft_tokens} soft tokens are too few for {width} x {height} pixels")
    if not rows:
        rows, columns = 1, min(width // height, soft_tokens)
    elif not columns:
        rows, columns = min(height // width, soft_tokens), 1
    return rows * square, columns * square


def image_patches(
    image: Image.Image,
    soft_tokens: int = USUAL_BUDGET,
    patch_size: int = PATCH_SIZE,
    pool_size: int = POOL_SIZE,
) -> Patches:
    """Resizes an image and cuts it into patches.

    Args:
      image: of the mode RGB.
      soft_tokens, patch_size, pool_size: as for `fitted_size`.

    Returns:
      the patches, row by row, without padding. There are pool_size ** 2 of them a soft token.

    Raises:
      ValueError: the image is not of the mode RGB, or `fitted_size` refuses it.
    """
    if image.mode != "RGB":
        raise ValueError(f"expected an image of the mode RGB, not {image.mode}: use open_image")
    height, width = fitted_size(image.height, image.width, soft_tokens, patch_size, pool_size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    rows, columns = height // patch_size, width // patch_size
    cut = pixels.reshape(rows, patch_size, columns, patch_size, 3).transpose(0, 2, 1, 3, 4)
    y, x = np.divmod(np.arange(rows * columns, dtype=np.int32), np.int32(columns))
    patches = cut.reshape(rows * columns, -1) * np.float32(1 / 255)
    return Patches(patches, np.stack([x, y], axis=-1))


def stack(
    images: Sequence[Patches],
    count: int | None = None,
    length: int | None = None,
    patch_size: int = PATCH_SIZE,
) -> Patches:
    """Images of different sizes as one batch, padded with zeros and with positions of -1.

    Args:
      images: the images.
      count: N. The images after the last one are padding alone, without a soft token. Default: the
        number of images.
      length: L. Default: the patches of the largest image.
      patch_size: pixels along a side of a patch.

    Returns:
      patches [N, L, P] and positions [N, L, 2].

    Raises:
      ValueError: there are more images than `count`, or one has more patches than `length`.
    """
    sizes = [len(image.patches) for image in images]
    count = len(images) if count is None else count
    length = max(sizes, default=0) if length is None else length
    if len(images) > count:
        raise ValueError(f"there are {len(images)} images, and there is room for {count}")
    if max(sizes, default=0) > length:
        raise ValueError(f"an image has {max(sizes)} patches, and there is room for {length}")
    patches = np.zeros((count, length, 3 * patch_size**2), np.float32)
    positions = np.full((count, length, 2), -1, np.int32)
    for i, (image, size) in enumerate(zip(images, sizes, strict=True)):
        patches[i, :size], positions[i, :size] = image
    return Patches(patches, positions)
