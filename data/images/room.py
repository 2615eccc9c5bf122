"""The room for images in a row of a batch: how many, how large, and what stands for them."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.images.patches import stack
from data.images.prompt import ImageTokens, with_pictures
from data.images.sources import Picture, PictureReader
from data.text.contents import Source, sources
from data.text.marked_text import MarkedText
from data.text.messages import Message, checked

# What the pictures of a row are called in a batch: the fields of diffusiongemma.Images.
PATCHES, POSITIONS = "patches", "positions"


@dataclasses.dataclass(frozen=True)
class ImageRoom:
    """The room for images in a row.

    Attributes:
      count: n, the number of images, and of frames of videos, that a row has room for.
      reader: reads them.
      tokens: what stands for them in a prompt.
    """

    count: int
    reader: PictureReader
    tokens: ImageTokens

    def shown(self, messages: list[Message]) -> list[list[Picture]]:
        """The pictures of messages: those of each image and of each video.

        Raises:
          ValueError: one of them cannot be read. The error is one line.
        """
        return [self.reader.read(kind, source) for kind, source in named(messages)]

    def prompt(self, text: MarkedText, shown: list[list[Picture]]) -> MarkedText:
        """A prompt with the tokens of its pictures in the place of the template's placeholders."""
        return with_pictures(text, shown, self.tokens)

    def row(self, shown: list[list[Picture]]) -> dict[str, np.ndarray]:
        """The pictures of one row, padded.

        Returns:
          {"patches": [n, L, P] float32, "positions": [n, L, 2] int32}. L is the same for all rows.

        Raises:
          ValueError: there are more than n pictures.
        """
        pictures = [picture.patches for picture in itertools.chain.from_iterable(shown)]
        if len(pictures) > self.count:
            raise ValueError(
                f"{len(pictures)} images, and a row has room for {self.count}: give "
                f"--config.images.per_row={len(pictures)}"
            )
        reader = self.reader
        length = max(reader.image_tokens, reader.frame_tokens) * reader.pool_size**2
        padded = stack(pictures, self.count, length, reader.patch_size)
        return dict(zip((PATCHES, POSITIONS), padded, strict=True))


def named(messages: Sequence[dict[str, Any]]) -> list[tuple[str, Source]]:
    """(kind, source) of all images and videos of messages, which need not be checked yet."""
    if not any(isinstance(message.get("content"), list | tuple) for message in messages):
        return []
    return sources(checked(list(messages)))
