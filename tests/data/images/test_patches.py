"""The sizes and the patches of images are those of transformers."""

from pathlib import Path

import numpy as np
import pytest

from data.images.patches import Patches, fitted_size, image_patches, stack
from tests.data.images.pictures import SIZES, picture

GOLDEN = Path(__file__).parents[2] / "golden" / "images.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {key: file[key] for key in file.files}


def test_sizes_are_those_of_transformers(golden):
    asked, wanted = golden["sizes"][:, :3], golden["sizes"][:, 3:]
    found = [fitted_size(*row) for row in asked.tolist()]
    np.testing.assert_array_equal(found, wanted)
    # The next two lines hold for all images, and so for those that the file does not have.
    assert (wanted % 48 == 0).all() and (wanted.prod(axis=1) <= asked[:, 2] * 48**2).all()
    assert ((wanted == 48).any(axis=1)).sum() > 20  # strips are among them


def test_a_size_may_have_no_pixels():
    for height, width in ((0, 5), (5, 0), (-1, 1)):
        with pytest.raises(ValueError, match="has no pixels"):
            fitted_size(height, width, 280)
    with pytest.raises(ValueError, match="0 soft tokens are too few for 7 x 5 pixels"):
        fitted_size(5, 7, 0)


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_patches_are_those_of_transformers(golden, number):
    found = image_patches(picture(number), 70, patch_size=2)
    wanted = golden[f"p{number}_patches"]
    np.testing.assert_array_equal(found.positions, golden[f"p{number}_positions"])
    np.testing.assert_array_equal(found.patches, wanted * np.float32(1 / 255))
    assert (found.patches.dtype, found.positions.dtype) == (np.float32, np.int32)
    assert found.patches.min() >= 0 and found.patches.max() <= 1
    # torchvision rounds its weights to 16 bits, so it is off by one in few places.
    other = golden[f"p{number}_torchvision"]
    assert np.abs(other).max() <= 1 and (other != 0).mean() < 0.02


def test_patches_have_pixels_where_they_were():
    """Without a change of size: patch (x, y), then row, column and channel of a pixel."""
    image = picture(0).resize((96, 48))
    found, pixels = image_patches(image, 2), np.asarray(image)
    assert found.patches.shape == (18, 768)
    place = found.positions.tolist().index([4, 2])
    patch = np.rint(255 * found.patches[place]).reshape(16, 16, 3)
    np.testing.assert_array_equal(patch, pixels[32:48, 64:80])


def test_images_are_stacked_with_padding():
    one, two = (image_patches(picture(0), tokens, patch_size=2) for tokens in (6, 12))
    found = stack([one, two], count=3, patch_size=2)
    lengths = [len(one.patches), len(two.patches), 0]
    assert found.patches.shape == (3, lengths[1], 12) and lengths[0] < lengths[1]
    assert ((found.positions >= 0).all(axis=-1).sum(axis=1) == lengths).all()
    np.testing.assert_array_equal(found.patches[0, : lengths[0]], one.patches)
    assert not found.patches[0, lengths[0] :].any() and not found.patches[2].any()
    assert stack([], count=2, length=9).positions.tolist() == np.full((2, 9, 2), -1).tolist()
    with pytest.raises(ValueError, match="there are 2 images, and there is room for 1"):
        stack([one, two], count=1, patch_size=2)
    with pytest.raises(ValueError, match="an image has 108 patches, and there is room for 54"):
        stack([two], length=54, patch_size=2)
    assert isinstance(found, Patches)


def test_only_rgb_is_cut():
    with pytest.raises(ValueError, match="not L: use open_image"):
        image_patches(picture(0).convert("L"))
