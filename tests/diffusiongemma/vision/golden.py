"""What transformers computes for the models in tests/golden (scripts/make_golden_vision.py)."""

from pathlib import Path

import jax
import numpy as np

from diffusiongemma import Images

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = ("seeing", "clipped")


def folder(name: str) -> Path:
    """The checkpoint of a model."""
    return GOLDEN / f"hf_{name}"


def outputs(name: str) -> dict[str, np.ndarray]:
    """The outputs of a model."""
    with np.load(folder(name) / "outputs.npz") as file:
        return {key: file[key] for key in file.files}


def images_of(want: dict[str, np.ndarray], numbers: np.ndarray | None = None) -> Images:
    """The images of some numbers, or all of them."""
    patches, positions = want["pixels"].astype(np.float32) / np.float32(255), want["positions"]
    numbers = np.arange(len(patches)) if numbers is None else numbers
    return Images(patches[numbers], positions[numbers])


def error(ours: jax.Array, theirs: np.ndarray) -> float:
    """The largest difference."""
    return float(np.abs(np.asarray(ours) - theirs).max())
