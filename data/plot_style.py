"""What every picture of this project shares: colours, resolution, and small PNG files.

Figures are drawn without pyplot, so there is no display and no global state.
"""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 130
BLUE, ORANGE, GREY, INK = "#2b6cb0", "#dd6b20", "#a0aec0", "#1a202c"
GREEN = "#1b6b3a"


def png(figure: Figure) -> bytes:
    """The figure as a PNG with a palette, which makes the file three times smaller."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    small = io.BytesIO()
    image = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()
