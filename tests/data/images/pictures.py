"""Pictures that are made of whole numbers, so that they are the same everywhere."""

import numpy as np
from PIL import Image

# Columns and rows of each picture: wide, high, larger and smaller than what they are resized to.
SIZES = ((64, 48), (31, 97), (160, 20), (300, 200), (1, 50), (24, 66), (333, 31))


def picture(number: int) -> Image.Image:
    """The picture of a number: a slope of colours with rings, edges and grain."""
    columns, rows = SIZES[number]
    y, x = np.mgrid[:rows, :columns]
    rings = ((x - columns // 3) ** 2 + (y - rows // 2) ** 2) // (7 + 5 * number) % 256
    slope = (255 * x // columns + 3 * y) % 256
    edges = np.where((x // 5 + y // 4) % 2, 255, 0)
    grain = (x * 7919 + y * 104729 + x * y * 31) % 7
    channels = rings, (slope + grain) % 256, np.where(x > columns // 2, edges, slope)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
