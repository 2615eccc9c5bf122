"""The fonts that pictures are written in, in two splits: families in one are not in the other.

They come with matplotlib, so every machine has the same ones.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Literal

from PIL import ImageFont

Split = Literal["train", "test"]

_STYLES = ("", "-Bold", "-Oblique", "-BoldOblique")
FONTS: dict[Split, tuple[str, ...]] = {
    "train": (
        *(f"DejaVuSans{style}" for style in _STYLES),
        *(f"DejaVuSansMono{style}" for style in _STYLES),
        *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
        *("cmr10", "cmb10", "cmti10"),
    ),
    "test": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmss10", "cmtt10"),
}


@functools.cache
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font.

    Args:
      name: one of those in FONTS.
      size: its size in pixels.
    """
    # Without an import of matplotlib, which takes long.
    home = Path(importlib.util.find_spec("matplotlib").origin).parent
    return ImageFont.truetype(home / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf", size)
