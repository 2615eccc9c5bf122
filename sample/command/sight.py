"""The images and videos of a prompt: read, put into its text, and stacked for the model."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data.images.patches import Patches, stack
from data.images.prompt import ImageTokens, with_pictures
from data.images.sources import Picture, PictureReader
from data.text.contents import sources, with_sources
from data.text.marked_text import MarkedText
from data.text.messages import Message
from data.text.tokenizer import Tokenizer
from diffusiongemma import Images, ModelConfig


class ContextFull(ValueError):
    """A prompt and its answer do not fit the model's context."""


class Seen(NamedTuple):
    """The pictures of the messages of a prompt.

    Attributes:
      media: the pictures of each image and each video, in their order.
      tokens: the tokens by which prompts show them; None if there are none.
    """

    media: list[list[Picture]]
    tokens: ImageTokens | None

    def text(self, text: MarkedText) -> MarkedText:
        """The text of the prompt with the pictures in it."""
        return with_pictures(text, self.media, self.tokens) if self.media else text

    @property
    def patches(self) -> tuple[Patches, ...]:
        """The patches of all pictures, in the order of their tokens."""
        return tuple(picture.patches for pictures in self.media for picture in pictures)

    def named(self, messages: list[Message]) -> list[Message]:
        """The messages with hashes of the pictures in the place of paths and data."""
        return with_sources(messages, list(map(_name, self.media))) if self.media else messages


def look(
    messages: list[Message],
    folder: Path | None,
    config: ModelConfig,
    tokenizer: Tokenizer,
    reader: PictureReader,
) -> Seen:
    """Reads the images and videos that messages name.

    Args:
      messages: what `messages.checked` returns.
      folder: where relative paths begin. Default: the working folder.
      config: the model's.
      tokenizer: the model's.
      reader: reads pictures.

    Raises:
      ContextFull: the images take more tokens than the model's context has.
      ValueError: the model or its tokenizer has no images, or one cannot be read.
    """
    asked = sources(messages)
    if not asked:
        return Seen([], None)
    vision, media, count = config.vision, [], 0
    if vision is None:
        raise ValueError("this model has no vision tower: it reads text only")
    ids = vision.image_id, vision.begin_image_id, vision.end_image_id
    tokens = ImageTokens.of(tokenizer, *ids)
    reader = dataclasses.replace(reader, patch_size=vision.patch_size, pool_size=vision.pool_size)
    for number, (kind, source) in enumerate(asked, 1):
        pictures = reader.read(kind, source, folder, f"{kind} {number}")
        for picture in pictures:
            columns, rows = picture.patches.positions.max(axis=0) + 1
            if max(columns, rows) > vision.num_places:
                raise ValueError(
                    f"{kind} {number}: {columns} x {rows} patches are more than the "
                    f"{vision.num_places} a side that the model knows"
                )
        count += sum(picture.soft_tokens for picture in pictures)
        if count > config.max_length:
            raise ContextFull(
                f"the images take more tokens than the model's context of {config.max_length}: "
                "give fewer, or give them fewer tokens with --image-tokens"
            )
        media.append(pictures)
    return Seen(media, tokens)


def batch_images(rows: Iterable[Sequence[Patches]], config: ModelConfig) -> Images | None:
    """The images of the rows of a batch; None if there are none."""
    images = [image for row in rows for image in row]
    return Images(*stack(images, patch_size=config.vision.patch_size)) if images else None


def _name(pictures: list[Picture]) -> str:
    found = hashlib.sha256()
    for picture in pictures:
        found.update(picture.time.encode())
        for array in picture.patches:
            found.update(array.tobytes())
    return found.hexdigest()
