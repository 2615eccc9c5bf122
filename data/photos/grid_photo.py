"""Draws a grid of digits as a photograph would show it: askew, in some light, with noise.

A Look is drawn at random, with all that a picture depends on. `draw_grid` then draws the picture,
which depends on the look and the digits alone.
"""

import dataclasses
import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data.photos.fonts import FONTS, Split, load_font

CELL = 32  # pixels of a cell before the picture is taken
MARGIN = 20  # pixels of paper around the grid
TURN = 6.0  # degrees, the largest rotation
SLANT = 0.3  # the largest slant of digits, beside that of an italic font
WIDTHS = (0.6, 1.3)  # of each digit in training, as multiples of the font's
FAINT = 2.0  # the largest exponent that thins strokes in training


@dataclasses.dataclass(frozen=True)
class Look:
    """How a grid looks in a picture.

    Attributes:
      seed: random seed of the noise.
      font: name of the font (fonts.py).
      size: size of the digits, as a share of a cell.
      stroke: pixels by which digits are thickened.
      stretch: the digits' width, as a multiple of the font's.
      widths: the same for each digit, 1 first, beside `stretch`.
      faint: the exponent of the ink, from 0 to 1, at a stroke's edges. Above 1 strokes are thinner.
      slant: how far the top of a digit leans to the right of its foot, as a share of its height.
      shift: (x, y), where digits stand in their cells, as a share of a cell.
      paper, ink, lines, table: colours (red, green, blue), 0 to 255, of the paper, the digits, the
        lines and what the paper lies on.
      thin, thick: widths in pixels of the lines between cells, and of those around boxes.
      shade: (x, y), how much lighter the picture's right and lower edges are, of 255.
      turn: rotation in degrees, counterclockwise.
      scale: side of the grid, as a share of the picture's height.
      place: (x, y), where the centre of the grid is, from that of a square at the picture's left
        edge, as a share of the picture's height.
      corners: [4][2], how far the paper's corners are from where they would be without perspective,
        as a share of the picture's height.
      blur: deviation of the blur, in pixels.
      noise: deviation of the noise, of 255.
    """

    seed: int
    font: str
    size: float
    stroke: int
    stretch: float
    widths: tuple[float, ...]
    faint: float
    slant: float
    shift: tuple[float, float]
    paper: tuple[int, int, int]
    ink: tuple[int, int, int]
    lines: tuple[int, int, int]
    table: tuple[int, int, int]
    thin: int
    thick: int
    shade: tuple[float, float]
    turn: float
    scale: float
    place: tuple[float, float]
    corners: tuple[tuple[float, float], ...]
    blur: float
    noise: float


def draw_look(rng: np.random.Generator, split: Split) -> Look:
    """Draws a look, with a font of the split.

    Training fonts are few. So half of the training looks slant their digits, half of them change
    the width of each digit, and half thin the strokes.
    """

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def pair(limit: float) -> tuple[float, float]:
        return between(-limit, limit), between(-limit, limit)

    def colour(low: int, high: int) -> tuple[int, int, int]:
        middle = rng.integers(low, high)
        return tuple(int(c) for c in np.clip(middle + rng.integers(-25, 26, 3), 0, 255))

    papers, inks, lines = ((170, 245), (0, 90), (0, 120))
    if rng.random() < 0.15:  # white on black
        papers, inks, lines = ((10, 70), (170, 255), (140, 255))
    scale = between(0.78, 0.92)
    look = Look(
        seed=int(rng.integers(2**31)),
        font=str(rng.choice(FONTS[split])),
        size=between(0.55, 0.85),
        stroke=int(rng.random() < 0.25),
        stretch=between(0.8, 1.2),
        widths=(1.0,) * 9,
        faint=1.0,
        slant=0.0,
        shift=pair(0.06),
        paper=colour(*papers),
        ink=colour(*inks),
        lines=colour(*lines),
        table=colour(0, 256),
        thin=int(rng.integers(1, 3)),
        thick=int(rng.integers(2, 5)),
        shade=pair(50),
        turn=between(-TURN, TURN),
        scale=scale,
        place=pair((0.95 - scale) / 4),
        corners=tuple(pair(0.02) for _ in range(4)),
        blur=between(0, 0.9),
        noise=between(0, 14),
    )
    if split == "test":
        return look
    if rng.random() < 0.5:
        look = dataclasses.replace(look, slant=between(-SLANT, SLANT))
    if rng.random() < 0.5:
        look = dataclasses.replace(look, widths=tuple(rng.uniform(*WIDTHS, 9).tolist()))
    if rng.random() < 0.5:
        look = dataclasses.replace(look, faint=between(1, FAINT))
    return look


def draw_grid(grid: np.ndarray, box: int, look: Look, cell: int = 32) -> Image.Image:
    """Draws a picture of a grid, which has n cells of height and n + 1 cells of width.

    The grid is in the left part. So a row of soft tokens, if each is as large as a cell, has as
    many tokens as a row of the answer, which has n digits and a line end.

    Args:
      grid: [n*n] int8, 0 for an empty cell; n = box**2.
      box: the box size.
      look: how it looks.
      cell: pixels of a cell, if the grid is as high as the picture.

    Returns:
      an RGB picture.
    """
    flat, n = _flat_grid(grid, box, look), box * box
    width, height = (n + 1) * cell, n * cell
    # Where the flat picture's corners lie in the photograph.
    half = look.scale / 2 * flat.width / (flat.width - 2 * MARGIN)
    angle = np.deg2rad(look.turn)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    corners = (square @ turned + 0.5 + np.array(look.place) + np.array(look.corners)) * height
    inside = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * flat.width
    photo = flat.transform(
        (width, height),
        Image.Transform.PERSPECTIVE,
        _perspective(corners, inside),
        Image.Resampling.BILINEAR,
        fillcolor=look.table,
    )
    if look.blur > 0.2:
        photo = photo.filter(ImageFilter.BoxBlur(_blur_radius(look.blur)))
    rng = np.random.default_rng(look.seed)
    across, down = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in (width, height))
    light = look.shade[0] * across + look.shade[1] * down[:, None]
    light += rng.standard_normal((height, width), np.float32) * np.float32(look.noise)
    pixels = np.asarray(photo, np.float32) + light[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _flat_grid(grid: np.ndarray, box: int, look: Look) -> Image.Image:
    """The grid on paper, seen from above."""
    n = box * box
    end = MARGIN + n * CELL
    flat = Image.new("RGB", (end + MARGIN, end + MARGIN), look.paper)
    pen = ImageDraw.Draw(flat)
    for i in range(n + 1):
        at, width = MARGIN + i * CELL, look.thin if i % box else look.thick
        pen.line([(at, MARGIN), (at, end)], look.lines, width)
        pen.line([(MARGIN, at), (end, at)], look.lines, width)
    digits = {int(d): _digit(int(d), look) for d in np.unique(grid) if d}
    for i, digit in enumerate(grid):
        if digit:
            mask = digits[int(digit)]
            middle = MARGIN + (np.array([i % n, i // n]) + 0.5 + look.shift) * CELL
            corner = np.round(middle - np.array(mask.size) / 2).astype(int)
            flat.paste(look.ink, tuple(corner.tolist()), mask)
    return flat


def _digit(digit: int, look: Look) -> Image.Image:
    """A digit as a mask, as large as its ink."""
    mask = _glyph(digit, look.font, round(look.size * CELL), look.stroke)
    if look.slant:
        wider = round(abs(look.slant) * mask.height)
        lean = (1, look.slant, -max(look.slant, 0) * mask.height, 0, 1, 0)  # to x from where
        size = (mask.width + wider, mask.height)
        mask = mask.transform(size, Image.Transform.AFFINE, lean, Image.Resampling.BILINEAR)
    if look.faint > 1:
        thinner = 255 * np.linspace(0, 1, 256) ** look.faint
        mask = mask.point(thinner.round().astype(int).tolist())
    width = mask.width * look.stretch * look.widths[digit - 1]
    return mask.resize((max(1, round(width)), mask.height))


@functools.cache
def _glyph(digit: int, font: str, size: int, stroke: int) -> Image.Image:
    """A digit as its font draws it, as a mask that is as large as its ink."""
    letters = load_font(font, size)
    box = letters.getbbox(str(digit), stroke_width=stroke)
    mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
    pen = ImageDraw.Draw(mask)
    pen.text((-box[0], -box[1]), str(digit), 255, letters, stroke_width=stroke)
    return mask


def _blur_radius(deviation: float) -> float:
    """The radius of the box that blurs like a deviation of up to sqrt(2) pixels.

    Pillow's box of radius r in [m, m + 1] has 2m + 1 pixels of weight 1 and two of weight r - m.
    """
    square = deviation**2
    if 3 * square < 2:
        return square / (2 - 2 * square)
    return 1 + (3 * square - 2) / (8 - 2 * square)


def _perspective(source: np.ndarray, target: np.ndarray) -> list[float]:
    """The eight numbers of the perspective that takes four points [4, 2] to four others."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values)).tolist()
