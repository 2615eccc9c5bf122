"""Puts pictures into the text of a prompt.

A chat template writes one placeholder for an image. In the prompt, a token that begins an image
stands there, then a token for each soft token, then one that ends it. For a video these stand there
for each frame, behind the frame's time: "00:00 <begin>...<end> 00:01 <begin>...<end>".
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from data.images.sources import Picture
from data.text.contents import PLACEHOLDERS
from data.text.marked_text import MarkedText, between_marks, token_pattern
from data.text.tokenizer import Tokenizer

_PLACES = token_pattern(map(between_marks, PLACEHOLDERS.values()))


class ImageTokens(NamedTuple):
    """The texts of the tokens of an image.

    Attributes:
      soft: stands for one soft token.
      begin: stands before them.
      end: stands after them.
    """

    soft: str
    begin: str
    end: str

    @classmethod
    def of(cls, tokenizer: Tokenizer, soft: int, begin: int, end: int) -> "ImageTokens":
        """The tokens of these ids.

        Raises:
          ValueError: the tokenizer has no such special tokens.
        """
        try:
            return cls(*map(tokenizer.special_token, (soft, begin, end)))
        except ValueError as error:
            raise ValueError(f"no images can be shown: {error}") from None

    def of_picture(self, picture: Picture) -> str:
        """What stands in a prompt for a picture, with marks around its special tokens."""
        soft = between_marks(self.soft) * picture.soft_tokens
        time = f"{picture.time} " if picture.time else ""
        return f"{time}{between_marks(self.begin)}{soft}{between_marks(self.end)}"


def with_pictures(
    text: MarkedText, shown: Sequence[Sequence[Picture]], tokens: ImageTokens
) -> MarkedText:
    """The text of a prompt with the tokens of its pictures in the place of placeholders.

    Args:
      text: as a chat template writes it, with one placeholder for each image and each video.
      shown: the pictures of each, in their order.
      tokens: the model's.

    Raises:
      ValueError: the template has written fewer or more placeholders.
    """
    marked = text.marked(re.compile("(?!)"))
    count = len(_PLACES.findall(marked))
    if count != len(shown):
        raise ValueError(
            f"the chat template writes {count} places for {len(shown)} images: it may be the "
            "template of a model that reads text only"
        )
    left = iter(shown)
    return MarkedText.read(
        _PLACES.sub(lambda _: " ".join(map(tokens.of_picture, next(left))), marked)
    )
