"""Writes tests/golden/images.npz: what transformers makes of pictures.

The results are committed, so that tests need neither torch nor transformers. To write them again,
use an environment of its own:

    pip install torch==2.13.0 torchvision==0.28.0 transformers==5.23.0 pillow==13.0.0
    python -m scripts.make_golden_images

With --check, nothing is written: the results of the installed transformers, which may be another
version, are compared with those in tests/golden.

The file holds

    sizes [M, 5] int32: height, width and budget of images, and the height and width that they get
    p<i>_patches [L, P] uint8: the patches of picture i (tests/data/images) by the image processor
        of Gemma 4 that uses Pillow, 255 times their values
    p<i>_torchvision [L, P] int8: by how much those of the other processor differ
    p<i>_positions [L, 2] int16: their (x, y)

Patches have 2 pixels a side here, and not 16, so that the file is small.
"""

import sys
from pathlib import Path

import numpy as np
from transformers.models.gemma4.image_processing_gemma4 import (
    Gemma4ImageProcessor,
    get_aspect_ratio_preserving_size,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from data.images.patches import fitted_size
from tests.data.images.pictures import SIZES, picture

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "images.npz"
BUDGETS = (70, 140, 280, 560, 1120)
PATCH, POOL = 2, 3
KEYS = ("pixel_values", "image_position_ids")


def sizes(count: int, seed: int) -> np.ndarray:
    """Sizes of random images, of which some are strips and some are made of whole squares."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        height, width = (
            rng.integers(1, 6000, 2),
            np.exp(rng.uniform(0, 10, 2)).astype(int),
            48 * rng.integers(1, 40, 2),
            rng.permutation([rng.integers(1, 60), rng.integers(1, 20_000)]),
        )[i % 4].tolist()
        budget = BUDGETS[i // 4 % len(BUDGETS)]
        size = get_aspect_ratio_preserving_size(height, width, 16, 9 * budget, 3)
        found.append((height, width, budget, *size))
    return np.array(found, np.int32)


def patches() -> dict[str, np.ndarray]:
    """The patches of all pictures, by both processors."""
    found = {}
    backends = {"patches": Gemma4ImageProcessorPil(), "torchvision": Gemma4ImageProcessor()}
    for i in range(len(SIZES)):
        for name, backend in backends.items():
            out = backend(
                [picture(i)],
                patch_size=PATCH,
                pooling_kernel_size=POOL,
                max_soft_tokens=BUDGETS[0],
                return_tensors="np",
            )
            count = int(out["num_soft_tokens_per_image"][0]) * POOL**2
            values, positions = (np.asarray(out[k][0])[:count] for k in KEYS)
            found[f"p{i}_{name}"] = np.rint(255 * values).astype(np.int16)
            found[f"p{i}_positions"] = positions.astype(np.int16)
        found[f"p{i}_torchvision"] -= found[f"p{i}_patches"]
        for name, dtype in (("patches", np.uint8), ("torchvision", np.int8)):
            found[f"p{i}_{name}"] = found[f"p{i}_{name}"].astype(dtype)
    return found


def main() -> None:
    found = {"sizes": sizes(200, seed=0), **patches()}
    if "--check" in sys.argv:
        many = sizes(10_000, seed=1)
        print("sizes that differ:", int((many[:, 3:] != ours(many[:, :3])).any(axis=1).sum()))
        with np.load(GOLDEN) as file:
            apart = {
                k: np.abs(found[k].astype(int) - file[k].astype(int)).max() for k in file.files
            }
        print("largest difference", max(apart.values()), apart)
        return
    np.savez_compressed(GOLDEN, **found)
    print(GOLDEN.stat().st_size, "bytes")


def ours(asked: np.ndarray) -> np.ndarray:
    """The sizes of this project."""
    return np.array([fitted_size(*map(int, row)) for row in asked])


if __name__ == "__main__":
    main()
