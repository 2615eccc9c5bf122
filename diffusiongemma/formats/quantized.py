"""Quantized weights in checkpoints: which tensors they are, and quantizing weights while reading.

A quantized parameter is two tensors, "PATH.values" and "PATH.scales" (see ops/quantized.py).
"""

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

# Precision -> the dtypes of the values and of the scales.
DTYPES = {
    "int8": (np.dtype(np.int8), np.dtype(np.float32)),
    "int4": (np.dtype(np.uint8), np.dtype(ml_dtypes.bfloat16)),
}
PART = 1 << 24  # so many elements are quantized at once


def quantized_tensors(
    tensors: Mapping[str, FileTensor], precision: Precision
) -> dict[str, FileTensor]:
    """Replaces each tensor that a precision quantizes by its values and its scales.

    Args:
      tensors: the tensors of this project's own format, by path.
      precision: the precision of the experts; see quantized_model.py for the other matrices.

    Raises:
      ValueError: the precision is int4, and the experts' matrices have an odd number of rows.
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
      base: weights that are not quantized.
      precision: the precision of the experts; see quantized_model.py for the other matrices.
      fingerprint: the fingerprint of the checkpoint that the weights come from.
    """
    dtypes = {}
    for path, dtype in base.dtypes.items():
        if own := precision_of(path, precision):
            parts = zip(Quantized._fields, DTYPES[own], strict=True)
            dtypes |= {f"{path}.{part}": part_dtype for part, part_dtype in parts}
        else:
            dtypes[path] = dtype
    last: dict[str, Quantized] = {}  # the matrix that was quantized last

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
    """Quantizes a matrix on the host. Only a part of a table or a stack is in float32 at a time.

    Args:
      kernel: a matrix, a stack of matrices, or the embedding table.
      precision: its precision.
      by_row: whether each row has a scale (the embedding table) and not each column.
    """
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
