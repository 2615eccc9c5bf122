"""LoRA factors of a checkpoint, to be put beside the weights of their base or merged into them.

The base on which factors were trained is known by its fingerprint: a hash over the name, the shape
and the first few elements of every parameter, rounded to bfloat16. Taking it reads a small part of
every tensor (a chunk of it, if Orbax saved it). A base has the same fingerprint in every format and
after a cast to bfloat16, but not after a cast to float16. A quantized base has the fingerprint of
the weights that were quantized, so factors trained on it go with either. The vision tower does not
count, so that a base has the same fingerprint with and without it.
"""

import dataclasses
import hashlib
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

from diffusiongemma.formats.checks import CheckpointError, is_finite, raise_faults
from diffusiongemma.formats.weights import Sharding, Stored, Weights, place
from diffusiongemma.lora import CANNOT_MERGE, NAMES, linears, merged
from diffusiongemma.parameters import in_tower
from diffusiongemma.transformer import DiffusionGemma


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The LoRA factors of one checkpoint.

    Attributes:
      weights: the factors, with paths like "layers.3.attention.q.lora_a", or ".encode_lora_a" for
        the factors of one mode alone. Its config is the base's, but with the size of the canvas
        that the factors were trained on.
      rank: the rank r of the factors.
      alpha: the factors' product is scaled by alpha / rank.
      base: folder of the base.
      fingerprint: fingerprint of the base on which the factors were trained; "" if it is not known.
      dtype: dtype of the base's weights in training; None: the dtype of each tensor.
    """

    weights: Weights
    rank: int
    alpha: float
    base: Path
    fingerprint: str = ""
    dtype: np.dtype | None = None

    @property
    def separate(self) -> bool:
        """Whether there are factors for one mode alone."""
        own = (*NAMES["encode"], *NAMES["denoise"])
        return any(path.endswith(own) for path in self.weights.dtypes)

    def attach(self, model: DiffusionGemma, sharding: Sharding | None = None) -> None:
        """Puts the factors, in float32, beside the weights of the base's model, in place.

        Args:
          model: the model of the base.
          sharding: where the factors go; None: to the default device.

        Raises:
          CheckpointError: factors have an inf or a nan. It names them.
        """
        model.config = self.weights.config
        model.separate_lora = self.separate
        for path, linear in linears(model):
            for name in (name for pair in NAMES.values() for name in pair):
                if f"{path}.{name}" in self.weights.dtypes:
                    value = self._factor(f"{path}.{name}")
                    value = place(value, f"{path}.{name}", sharding)
                    setattr(linear, name, nnx.LoRAParam(value))
                    linear.lora_scale = self.alpha / self.rank
        raise_faults(self.weights.source, {"inf or nan": self.weights.broken})

    def merge(self, base: Weights) -> Weights:
        """The weights of the base with the factors merged in. Each is merged when it is read.

        Raises:
          CheckpointError: the base is quantized, or there are factors for one mode alone.
        """
        if self.separate:
            raise CheckpointError(
                f"{self.weights.source}: {CANNOT_MERGE}: keep the adapter beside its base, and "
                "load it as it is, or export it with --format=peft"
            )
        if base.quantized:
            raise CheckpointError(
                f"{base.source}: its weights are quantized, so LoRA factors cannot be merged into "
                "them: name the checkpoint that was quantized (--base)"
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
    """The fingerprint of a checkpoint that holds a whole model; see the module."""
    if stored.quantized and stored.quantized.fingerprint:
        return stored.quantized.fingerprint
    found = {}
    for name, tensor in stored.tensors.items():
        if all(map(in_tower, tensor.params)):
            continue
        corner = tensor.corner
        params = corner.to_params(stored.read(name, tuple(map(slice, corner.shape))))
        for path, value in params.items():
            rounded = value.astype(ml_dtypes.bfloat16)
            found[path] = f"{path} {tensor.param_shape(path)} {rounded.tobytes().hex()}\n"
    return hashlib.sha256("".join(found[path] for path in sorted(found)).encode()).hexdigest()


def check_base(folder: Path, wanted: str, base: Path, stored: Stored) -> None:
    """Raises CheckpointError if LoRA factors were trained on another base than the one given.

    Args:
      folder: the checkpoint with the factors.
      wanted: the fingerprint of the base on which they were trained; "" if it is not known.
      base: folder of the base that is given.
      stored: that base, opened.
    """
    if wanted and wanted != fingerprint(stored):
        raise CheckpointError(
            f"{folder}: its LoRA factors were trained on another base than {base}: "
            "name the base that they were trained on (--base)"
        )
