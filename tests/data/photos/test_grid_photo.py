"""Drawn pictures: the same look gives the same picture, and digits stand in their cells."""

import dataclasses

import numpy as np

from data.photos.fonts import FONTS, load_font
from data.photos.grid_photo import Look, draw_grid, draw_look

LEVEL = Look(
    seed=1,
    font="DejaVuSans",
    size=0.7,
    stroke=0,
    stretch=1.0,
    shift=(0, 0),
    paper=(240, 240, 240),
    ink=(0, 0, 0),
    lines=(240, 240, 240),
    table=(240, 240, 240),
    thin=1,
    thick=1,
    shade=(0, 0),
    turn=0.0,
    scale=1.0,
    place=(0, 0),
    corners=((0, 0),) * 4,
    blur=0.0,
    noise=0.0,
)


def ink(picture, cell: int = 32) -> np.ndarray:
    """How dark each cell of a picture is: [rows, columns]."""
    dark = 240.0 - np.asarray(picture, float).mean(axis=2)
    rows, columns = (side // cell for side in dark.shape)
    return dark.reshape(rows, cell, columns, cell).mean(axis=(1, 3))


def test_digits_stand_in_their_cells():
    grid = np.zeros(16, np.int8)
    grid[[2, 7, 12]] = 1, 8, 4
    found = ink(draw_grid(grid, 2, LEVEL))
    assert found.shape == (4, 5)  # a free column at the right
    dark = np.argwhere(found > 5)
    assert dark.tolist() == [[0, 2], [1, 3], [3, 0]]
    assert found[1, 3] > found[0, 2]  # an 8 has more ink than a 1
    # A quarter turn counterclockwise moves the upper row to the left column.
    turned = ink(draw_grid(grid, 2, dataclasses.replace(LEVEL, turn=90.0)))
    assert np.argwhere(turned > 5).tolist() == [[0, 1], [1, 0], [3, 3]]


def test_a_picture_depends_on_its_look_alone():
    look = draw_look(np.random.default_rng(3), "train")
    assert look == draw_look(np.random.default_rng(3), "train")
    grid = np.arange(81, dtype=np.int8) % 10
    first, second = (np.asarray(draw_grid(grid, 3, look)) for _ in range(2))
    assert first.shape == (288, 320, 3)
    np.testing.assert_array_equal(first, second)
    other = np.asarray(draw_grid(grid, 3, dataclasses.replace(look, seed=look.seed + 1)))
    assert np.any(first != other)


def test_held_out_fonts_are_of_other_families():
    families = {
        split: {font.split("-")[0].rstrip("0123456789") for font in fonts}
        for split, fonts in FONTS.items()
    }
    assert not families["train"] & families["test"]
    for split, fonts in FONTS.items():
        drawn = {draw_look(np.random.default_rng(i), split).font for i in range(200)}
        assert drawn == set(fonts)
        for font in fonts:  # all digits look different, so the font has them
            boxes = [bytes(load_font(font, 20).getmask(str(digit))) for digit in range(1, 10)]
            assert len(set(boxes)) == 9, font
