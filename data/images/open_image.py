"""Opens image files: a file or its bytes become one RGB picture, or one line that says why not.

It does what the released model's image processor does. The rotation that a camera noted is applied,
and what is transparent becomes white. Of an animated file, the first frame is taken. A file that
would take too much memory is refused before it is decoded.
"""

import io
import os
import stat
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

# Pillow reads more kinds. Those that are left out start other programs (EPS) or are rare.
KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
MOST_PIXELS = 2**27  # more than the camera of a phone gives; they take 8 bytes each, 1 GB
BAND = 2**22  # pixels whose transparent parts are made white at a time
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")


def open_image(
    source: str | Path | bytes, most_pixels: int = MOST_PIXELS, name: str | None = None
) -> Image.Image:
    """Reads an image.

    Grey, palette, CMYK and other pictures become RGB. Of channels with 16 bits, the upper 8 are
    taken. Of several frames or pages, the first one is taken.

    Args:
      source: the path of a file, or the contents of one.
      most_pixels: the largest number of pixels that are decoded.
      name: the name of the image in errors. Default: its path.

    Returns:
      an image of the mode RGB, 8 bits a channel.

    Raises:
      ValueError: there is no such file, it is not a regular file, it is empty, broken or too large,
        or it is not of one of KINDS. The error is one line.
    """
    in_memory = isinstance(source, bytes)
    name = name or ("the image" if in_memory else str(source))
    with io.BytesIO(source) if in_memory else open_file(Path(source), name) as file:
        if not file.read(1):
            raise ValueError(f"{name}: the file is empty")
        file.seek(0)
        return _decode(file, most_pixels, name)


def open_file(path: Path, name: str) -> BinaryIO:
    """Opens a regular file and never waits, as it would for the other end of a pipe.

    Raises:
      ValueError: it is not a regular file, or it cannot be opened.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"{name}: {(error.strerror or str(error)).lower()}") from None
    except ValueError:  # a NUL character
        raise ValueError(f"{name!r}: this is not the name of a file") from None
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise ValueError(f"{name}: it is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}")


def _decode(file: BinaryIO, most_pixels: int, name: str) -> Image.Image:
    with warnings.catch_warnings():
        # What is wrong with a file is said in one line below, and not by Pillow's warnings.
        warnings.filterwarnings("ignore", module="PIL")
        try:
            with Image.open(file, formats=KINDS) as image:
                if image.width * image.height > most_pixels:
                    raise Image.DecompressionBombError
                return as_rgb(image)
        except Image.DecompressionBombError:
            limit = f"the {most_pixels:,} pixels that are read"
            raise ValueError(f"{name}: it has more than {limit}: make it smaller") from None
        except Image.UnidentifiedImageError:
            kinds = ", ".join(KINDS)
            raise ValueError(f"{name}: not an image of a known kind ({kinds})") from None
        except Exception as error:  # decoders raise errors of many kinds for broken files
            why = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{name}: the image is broken: {why}") from None


def as_rgb(image: Image.Image) -> Image.Image:
    """The pixels of an image, upright, as a new image of the mode RGB, 8 bits a channel.

    Args:
      image: of any mode. If it notes a rotation, this image itself is turned.

    Raises:
      ValueError: its pixels have 32 bits.
    """
    # A PPM file with more than 8 bits is scaled to 16 bits, in a mode of 32.
    grey_16 = image.mode in _GREY_16 or (image.mode == "I" and image.format == "PPM")
    ImageOps.exif_transpose(image, in_place=True)
    if grey_16:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, and nothing says what is white: save 8 or 16")
    if not image.has_transparency_data:
        return image.convert("RGB")
    whole, rows = Image.new("RGB", image.size), max(BAND // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = image.crop((0, top, image.width, bottom)).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        whole.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return whole
