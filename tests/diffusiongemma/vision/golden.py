"""What transformers computes for the models in tests/golden (scripts/make_golden_vision.py)."""

from pathlib import Path

import jax
import numpy as np
from flax import nnx

from diffusiongemma import DiffusionGemma, Images, load_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = ("seeing", "clipped")
# XLA's optimisations cost more here than they save.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


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


class Reader:
    """A model's compiled functions. A changed state needs no new compilation."""

    def __init__(self, model: DiffusionGemma):
        self.model = model
        graph, self.state = nnx.split(model)

        def see(state, images):
            vision = nnx.merge(graph, state).vision
            return vision.encode_patches(images), *vision(images)

        def encode(state, tokens, images, cache, mask):
            return nnx.merge(graph, state).encode(tokens, cache, mask, images=images)

        def denoise(state, canvas, cache):
            return nnx.merge(graph, state).denoise(canvas, cache)

        jitted = [jax.jit(f, compiler_options=QUICK) for f in (see, encode, denoise)]
        self._see, self._encode, self._denoise = jitted

    def see(self, images, state=None):
        return self._see(state or self.state, images)

    def encode(self, tokens, images=None, cache=None, mask=None):
        if cache is None:
            cache = self.model.init_cache(len(tokens), 64)
        return self._encode(self.state, tokens, images, cache, mask)

    def denoise(self, canvas, cache):
        return self._denoise(self.state, canvas, cache)


def load(name: str) -> Reader:
    return Reader(load_checkpoint(folder(name)))
