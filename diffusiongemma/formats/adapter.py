"""LoRA checkpoints: factors alone, to be put beside the weights of a base or merged into them.

Which base they were trained on is known by its fingerprint, a hash over name, shape and first few
elements of every parameter, rounded to bfloat16. It takes a small read of every tensor (of Orbax's,
a chunk). A base keeps it in every format and when it is cast to bfloat16, but not to float16. A
quantized base has that of what was quantized, so that factors trained on it go with either.
"""

import dataclasses
import hashlib
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

from diffusiongemma.formats.weights import (
    CheckpointError,
    Sharding,
    Stored,
    Weights,
    is_finite,
    place,
    report,
)
from diffusiongemma.lora import linears, merged
from diffusiongemma.transformer import DiffusionGemma


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The factors of one checkpoint.

    Attributes:
      weights: the factors, by paths as "layers.3.attention.q.lora_a"; its config is the base's,
        with the canvas that they were trained on.
      rank: r.
      alpha: scale, over rank.
      base: the checkpoint that they belong to.
      fingerprint: of the base they were trained on; "": not known.
      dtype: of the base's weights in training; None: each one's own.
    """

    weights: Weights
    rank: int
    alpha: float
    base: Path
    fingerprint: str = ""
    dtype: np.dtype | None = None

    def attach(self, model: DiffusionGemma, sharding: Sharding | None = None) -> None:
        """Puts the factors, in float32, beside the weights of the base's model, in place.

        Raises:
          CheckpointError: every factor with an inf or a nan.
        """
        model.config = self.weights.config
        for path, linear in linears(model):
            if f"{path}.lora_a" in self.weights.dtypes:
                for name in ("lora_a", "lora_b"):
                    value = self._factor(f"{path}.{name}")
                    value = place(value, f"{path}.{name}", sharding)
                    setattr(linear, name, nnx.LoRAParam(value))
                linear.lora_scale = self.alpha / self.rank
        report(self.weights.source, {"inf or nan": self.weights.broken})

    def merge(self, base: Weights) -> Weights:
        """The base's weights with the factors merged in, each when it is read.

        Raises:
          CheckpointError: the base is quantized.
        """
        if base.quantized:
            raise CheckpointError(
                f"{base.source}: quantized, so factors cannot be merged into it: give the base "
                "that it was made from (--base)"
            )

        def read(path: str) -> np.ndarray:
            kernel, stem = base.read(path), path.removesuffix(".kernel")
            if f"{stem}.lora_a" not in self.weights.dtypes:
                return kernel
            factors = (jnp.asarray(self._factor(f"{stem}.{name}")) for name in ("lora_a", "lora_b"))
            value = np.asarray(merged(jnp.asarray(kernel), *factors, self.alpha / self.rank))
            if path not in base.broken and not is_finite(value):
                base.broken.append(path)
            return value

        return dataclasses.replace(base, config=self.weights.config, read=read)

    def _factor(self, path: str) -> np.ndarray:
        return self.weights.read(path).astype(np.float32, copy=False)


def fingerprint(stored: Stored) -> str:
    """Of a whole model's checkpoint; see the module."""
    if stored.quantized and stored.quantized.fingerprint:
        return stored.quantized.fingerprint
    found = {}
    for name, tensor in stored.tensors.items():
        corner = tensor.corner
        params = corner.to_params(stored.read(name, tuple(map(slice, corner.shape))))
        for path, value in params.items():
            rounded = value.astype(ml_dtypes.bfloat16)
            found[path] = f"{path} {tensor.param_shape(path)} {rounded.tobytes().hex()}\n"
    return hashlib.sha256("".join(found[path] for path in sorted(found)).encode()).hexdigest()


def check_base(folder: Path, wanted: str, base: Path, stored: Stored) -> None:
    """Raises CheckpointError if factors belong to another base than the one given.

    Args:
      folder: theirs.
      wanted: the fingerprint of their base; "" if it is not known.
      base, stored: the one given.
    """
    if wanted and wanted != fingerprint(stored):
        raise CheckpointError(
            f"{folder}: its factors were trained on another base than {base}: "
            "give their own (--base)"
        )
