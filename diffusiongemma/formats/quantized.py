"""Quantized weights on their way into a checkpoint and out of it: their tensors, and a stream."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from diffusiongemma.formats.tensor_tables import FileTensor
from diffusiongemma.formats.weights import Quantization, Weights
from diffusiongemma.ops.quantized import Precision, Quantized, group_size, quantize
from diffusiongemma.parameters import split_axes
from diffusiongemma.quantized_model import EMBEDDING, precision_of

# Of values and scales.
DTYPES = {
    "int8": (np.dtype(np.int8), np.dtype(np.float32)),
    "int4": (np.dtype(np.uint8), np.dtype(ml_dtypes.bfloat16)),
}
PART = 1 << 24  # elements quantized at once


def quantized_tensors(
    tensors: Mapping[str, FileTensor], precision: Precision
) -> dict[str, FileTensor]:
    """The tensors of this project's precision, with values and scales for what is quantized.

    Raises:
      ValueError: int4, and experts whose matrices have an odd number of rows.
    """
    found = {}
    for path, tensor in tensors.items():
        own = precision_of(path, precision)
        if own is None:
            found[path] = tensor
            continue
        *stack, rows, columns = split_axes(tensor.axes)
        if own == "int4":
            size = tensor.sizes[rows]
            groups = f"{rows}/{group_size(size)}"
            sizes = {f"{rows}/2": size // 2, groups: size // group_size(size)}
            axes = [*stack, f"{rows}/2", columns], [*stack, groups, columns]
        else:
            sizes = {}
            scales = [rows, "1"] if path == EMBEDDING else ["1", columns]
            axes = [*stack, rows, columns], [*stack, *scales]
        for part, part_axes, dtype in zip(Quantized._fields, axes, DTYPES[own], strict=True):
            name, text = f"{path}.{part}", " ".join(part_axes)
            found[name] = FileTensor(name, text, {name: text}, {**tensor.sizes, **sizes}, dtype)
    return found


def quantized_weights(base: Weights, precision: Precision, fingerprint: str) -> Weights:
    """Weights that are quantized when they are read, each matrix part by part.

    Args:
      base: not quantized.
      fingerprint: of the checkpoint that they come from.
    """
    dtypes = {}
    for path, dtype in base.dtypes.items():
        if own := precision_of(path, precision):
            parts = zip(Quantized._fields, DTYPES[own], strict=True)
            dtypes |= {f"{path}.{part}": part_dtype for part, part_dtype in parts}
        else:
            dtypes[path] = dtype
    last: dict[str, Quantized] = {}

    def read(path: str) -> np.ndarray:
        stem, _, part = path.rpartition(".")
        if part not in Quantized._fields:
            return base.read(path)
        if stem not in last:
            last.clear()
            own, by_row = precision_of(stem, precision), stem == EMBEDDING
            last[stem] = _quantized(base.read(stem), own, by_row)
        return getattr(last[stem], part)

    about = Quantization(precision, base.dtypes[EMBEDDING], fingerprint)
    return dataclasses.replace(base, dtypes=dtypes, read=read, quantized=about)


def _quantized(kernel: np.ndarray, precision: Precision, by_row: bool) -> Quantized:
    """On the host. Of a table or a stack, no more than a part is ever widened."""
    if not by_row and kernel.ndim == 2:
        return jax.tree.map(np.asarray, quantize(jnp.asarray(kernel), precision))
    like = jax.eval_shape(lambda k: quantize(k, precision, by_row=by_row), kernel)
    whole = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), like)
    size = max(PART * len(kernel) // kernel.size, 1)
    for start in range(0, len(kernel), size):
        at = slice(start, start + size)
        part = quantize(jnp.asarray(kernel[at]), precision, by_row=by_row)
        for array, piece in zip(whole, part, strict=True):
            array[at] = piece
    return whole
