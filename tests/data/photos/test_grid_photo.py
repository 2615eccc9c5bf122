"""Drawn pictures: the same look gives the same picture, and digits stand in their cells."""

import dataclasses

import numpy as np
import pytest

from data.photos.fonts import FONTS, load_font
from data.photos.grid_photo import FAINT, SLANT, WIDTHS, Look, draw_grid, draw_look

LEVEL = Look(
    seed=1,
    font="DejaVuSans",
    size=0.7,
    stroke=0,
    stretch=1.0,
    widths=(1.0,) * 9,
    faint=1.0,
    slant=0.0,
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


def test_a_slanted_digit_leans_to_the_right():
    grid = np.zeros(16, np.int8)
    grid[5] = 1  # an upright stroke

    def lean(slant: float) -> float:
        """How far the digit's upper half is to the right of its lower half, in pixels."""
        picture = draw_grid(grid, 2, dataclasses.replace(LEVEL, slant=slant, font="cmss10"))
        dark = 240.0 - np.asarray(picture, float).mean(axis=2)[32:64, 32:64]
        upper, lower = dark[:16], dark[16:]
        middles = [(part.sum(axis=0) @ np.arange(32)) / part.sum() for part in (upper, lower)]
        return middles[0] - middles[1]

    # A digit has 22 pixels of height, so the middles of its halves are some 11 pixels apart.
    assert lean(0.3) - lean(0.0) == pytest.approx(0.3 * 11, abs=1)
    assert lean(-0.3) - lean(0.0) == pytest.approx(-0.3 * 11, abs=1)


def test_each_digit_has_a_width_and_strokes_may_be_thin():
    grid = np.zeros(16, np.int8)
    grid[[0, 5]] = 2, 3

    def sides(look: Look) -> list[int]:
        """The widths of the 2 and the 3, in pixels."""
        dark = 240.0 - np.asarray(draw_grid(grid, 2, look), float).mean(axis=2)
        return [int((dark[at : at + 32, at : at + 32].max(axis=0) > 60).sum()) for at in (0, 32)]

    usual = sides(LEVEL)
    changed = sides(dataclasses.replace(LEVEL, widths=(1.0, 0.5, 1.5) + (1.0,) * 6))
    np.testing.assert_allclose(changed, np.array([0.5, 1.5]) * usual, atol=2)
    one, thin = (
        ink(draw_grid(grid, 2, dataclasses.replace(LEVEL, font="cmr10", faint=faint))).max()
        for faint in (1.0, 2.0)
    )
    assert 0.6 * one < thin < 0.9 * one


@pytest.mark.parametrize("deviation", [0.3, 0.6, 0.8, 0.9])
def test_a_blur_has_its_deviation(deviation):
    look = dataclasses.replace(LEVEL, lines=(0, 0, 0))

    def variance(blur: float) -> float:
        """The variance of the ink across a vertical line, in square pixels."""
        picture = draw_grid(np.zeros(16, np.int8), 2, dataclasses.replace(look, blur=blur))
        pixels = np.asarray(picture, float)[5:27, 22:43, 0]  # between two horizontal lines
        dark, x = (240.0 - pixels).mean(axis=0), np.arange(21)
        middle = (dark @ x) / dark.sum()
        return (dark @ (x - middle) ** 2) / dark.sum()

    assert np.sqrt(variance(deviation) - variance(0.0)) == pytest.approx(deviation, abs=0.03)


def test_training_digits_vary_more_than_held_out_ones():
    looks = {
        split: [draw_look(np.random.default_rng(i), split) for i in range(400)] for split in FONTS
    }
    for look in looks["test"]:
        assert (look.slant, look.widths, look.faint) == (0, (1,) * 9, 1)
    slants = np.array([look.slant for look in looks["train"]])
    widths = np.array([look.widths for look in looks["train"]])
    faints = np.array([look.faint for look in looks["train"]])
    for changed in (slants != 0, (widths != 1).all(axis=1), faints != 1):
        assert 150 < changed.sum() < 250
    assert -SLANT < slants.min() < -0.25 and 0.25 < slants.max() < SLANT
    assert WIDTHS[0] < widths.min() < 0.65 and 1.25 < widths.max() < WIDTHS[1]
    assert FAINT - 0.05 < faints.max() < FAINT


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
