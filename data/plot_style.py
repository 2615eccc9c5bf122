"""The colours and the resolution of all pictures of this project, and how they become PNG files.

Figures are drawn without pyplot. So they need no display, and there is no global state.
"""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 130  # pixels per inch
BLUE, ORANGE, GREY, INK = "#2b6cb0", "#dd6b20", "#a0aec0", "#1a202c"
GREEN = "#1b6b3a"


def spread(steps: int, most: int) -> np.ndarray:
    """At most so many of the steps 0, 1, ..., the first and the last among them: [n] int64."""
    return np.unique(np.linspace(0, steps - 1, min(steps, most)).round().astype(int))


def png(figure: Figure) -> bytes:
    """The bytes of a PNG file of a figure. It has a palette, so it is three times smaller."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    small = io.BytesIO()
    image = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()
