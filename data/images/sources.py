"""Finds the pictures of messages, in files, data URLs or memory, and cuts them into patches."""

import base64
import binascii
import dataclasses
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from PIL import Image, ImageOps

from data.images.open_image import MOST_PIXELS, as_rgb, open_image
from data.images.patches import (
    FRAME_BUDGET,
    PATCH_SIZE,
    POOL_SIZE,
    USUAL_BUDGET,
    Patches,
    image_patches,
)
from data.text.contents import Source

_DATA = re.compile(r"data:([^,]*),", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
SHOWN = 60  # characters of a source in an error


class Picture(NamedTuple):
    """An image, or a frame of a video.

    Attributes:
      patches: its patches.
      soft_tokens: the number of its soft tokens.
      time: what stands before it in the prompt; "" for nothing.
    """

    patches: Patches
    soft_tokens: int
    time: str = ""


@dataclasses.dataclass(frozen=True)
class PictureReader:
    """Reads pictures as a model wants them.

    Attributes:
      image_tokens: largest number of soft tokens of an image.
      frame_tokens: largest number of soft tokens of a frame of a video.
      patch_size: pixels along a side of a patch.
      pool_size: patches along a side of the square that becomes one soft token.
      most_pixels: the largest number of pixels of an image.
      only_in: the folder to which files are restricted, for sources that come from strangers; "" if
        they may name no file at all. None: any file.
    """

    image_tokens: int = USUAL_BUDGET
    frame_tokens: int = FRAME_BUDGET
    patch_size: int = PATCH_SIZE
    pool_size: int = POOL_SIZE
    most_pixels: int = MOST_PIXELS
    only_in: str | None = None

    def read(
        self, kind: str, source: Source, folder: Path | None = None, name: str = "the image"
    ) -> list[Picture]:
        """The pictures of an image or a video.

        Args:
          kind: "image" or "video".
          source: a path or, for an image, a data URL or a Pillow image.
          folder: where relative paths begin. Default: the working folder.
          name: what errors call an image that is no file.

        Returns:
          one picture of an image; the frames of a video.

        Raises:
          ValueError: it cannot be read. The error is one line.
        """
        if isinstance(source, Image.Image):
            upright = ImageOps.exif_transpose(source)  # a copy, which as_rgb may turn
            try:
                return [self._picture(as_rgb(upright), self.image_tokens)]
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if found := _DATA.match(source):
            if kind == "video":
                raise ValueError("a video is read from a file, not from a data URL")
            data = _decoded(found[1], source[found.end() :], name)
            image = open_image(data, self.most_pixels, name)
            return [self._picture(image, self.image_tokens)]
        path = self._path(source, folder)
        if kind == "video":
            from data.images.video import read_frames  # its decoder takes long to import

            frames = read_frames(path, self.most_pixels, source)
            return [self._picture(image, self.frame_tokens, time) for time, image in frames]
        return [self._picture(open_image(path, self.most_pixels, source), self.image_tokens)]

    def _picture(self, image: Image.Image, budget: int, time: str = "") -> Picture:
        patches = image_patches(image, budget, self.patch_size, self.pool_size)
        return Picture(patches, len(patches.patches) // self.pool_size**2, time)

    def _path(self, source: str, folder: Path | None) -> Path:
        scheme = _SCHEME.match(source)
        if scheme and scheme[1].lower() != "file":
            raise ValueError(
                f"{_short(source)}: nothing is fetched from the network: download it, and give its "
                "path or a data URL"
            )
        name = unquote(source[scheme.end() :]).removeprefix("localhost") if scheme else source
        if self.only_in is None:
            return (folder or Path()) / name
        if not self.only_in:
            raise ValueError(
                "paths are not read here, because the server was given no folder of images: send a "
                "data URL"
            )
        allowed = Path(self.only_in).resolve()
        try:
            path = (allowed / name).resolve()
        except (OSError, ValueError, RuntimeError):  # a NUL character, or links in a circle
            path = None
        # The frames of a video may be files in a folder.
        found = [] if path is None else [path, *(path.iterdir() if path.is_dir() else ())]
        if not found or not all(each.resolve().is_relative_to(allowed) for each in found):
            raise ValueError(f"{_short(source)}: it is not in the server's folder of images")
        return path


def _decoded(kind: str, text: str, name: str) -> bytes:
    """The contents of a data URL, of which `kind` is what stands before the comma."""
    if not kind.lower().rstrip().endswith(";base64"):
        raise ValueError(f"{name}: a data URL must be base64: data:image/png;base64,...")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name}: its data URL is no base64") from None


def _short(source: str) -> str:
    return source if len(source) <= SHOWN else f"{source[:SHOWN]}..."
