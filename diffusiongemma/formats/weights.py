"""Weights on their way into a model and out of it, one tensor at a time.

Opening a checkpoint of any format gives a Stored: its tensors are checked but not read. load_model
makes a model of it. Every format writes Weights, which come from a model or from a Stored. So
neither loading nor saving nor a conversion holds a second copy of the model in host memory.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import EllipsisType

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.checks import is_finite, known_dtype, raise_faults
from diffusiongemma.formats.tensor_tables import FileTensor
from diffusiongemma.formats.untouched import Untouched
from diffusiongemma.ops.quantized import Precision, QuantizedParam
from diffusiongemma.quantized_model import abstract_model, quantized_precision
from diffusiongemma.transformer import DiffusionGemma

# One sharding for all parameters, or a function of a parameter's path and shape.
Sharding = jax.sharding.Sharding | Callable[[str, tuple[int, ...]], jax.sharding.Sharding]
# The slices that select a part of a tensor, or ... for all of it.
Part = tuple[slice, ...] | EllipsisType


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How the matrices of a checkpoint are quantized.

    Attributes:
      precision: the precision of the experts; see quantized_model.py for the other matrices.
      dtype: the dtype of the weights before they were quantized, and of the model's activations.
      fingerprint: the fingerprint of the checkpoint that was quantized (see adapter.py); "" if it
        is not known.
    """

    precision: Precision
    dtype: np.dtype
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A checkpoint on the disk: its names, shapes and dtypes are right, and nothing is read yet.

    Attributes:
      folder: where the checkpoint is, for messages.
      config: the shape of the model.
      tensors: name -> tensor, in the order in which the tensors are best read.
      dtypes: name -> dtype in the file.
      read: (name, part) -> the tensor in the file's layout and dtype, or a part of it (Part; all of
        it by default). The array may be a view of the file, which stays mapped for as long as the
        array lives.
      quantized: how the matrices are quantized; None if they are not.
      untouched: what the checkpoint holds beside the model; None if it is of no format that holds
        more.
    """

    folder: Path
    config: ModelConfig
    tensors: Mapping[str, FileTensor]
    dtypes: Mapping[str, np.dtype]
    read: Callable[..., np.ndarray]
    quantized: Quantization | None = None
    untouched: Untouched | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """Every parameter of a model, or every LoRA factor, ready to be written.

    Attributes:
      source: where the weights come from, for messages.
      config: the shape of the model.
      dtypes: path of a parameter -> dtype to be written; whoever writes it casts.
      read: gives the parameter of a path, as an array on the host.
      broken: names of tensors with an inf or a nan, which must not be published. `read` fills the
        list.
      quantized: how the matrices are quantized; None if they are not.
      untouched: what is written with the weights if the format can hold it; None: nothing.
    """

    source: str
    config: ModelConfig
    dtypes: Mapping[str, np.dtype]
    read: Callable[[str], np.ndarray]
    broken: list[str] = dataclasses.field(default_factory=list)
    quantized: Quantization | None = None
    untouched: Untouched | None = None


def load_model(stored: Stored, dtype: np.dtype | None, sharding: Sharding | None) -> DiffusionGemma:
    """Makes the model of an opened checkpoint; no parameter is ever initialised at random.

    Args:
      stored: the checkpoint.
      dtype: the dtype of the parameters; None keeps the dtype of each tensor.
      sharding: where the parameters go; None: to the default device.

    Raises:
      CheckpointError: tensors have an inf or a nan, after the cast if there is one. It names them.
    """
    quantized = stored.quantized
    own = jnp.float32 if quantized is None else quantized.dtype
    abstract = abstract_model(stored.config, dtype or own, quantized and quantized.precision)
    graph, state = nnx.split(abstract)
    variables = {dotted(path): (path, v) for path, v in nnx.to_flat_state(state)}
    loaded, broken = [], []
    for name, tensor in stored.tensors.items():
        array = _cast(stored.read(name), tensor, dtype)
        if not _is_sound(array, tensor):
            broken.append(name)
            continue
        for param, value in tensor.to_params(array).items():
            key, variable = variables.pop(param)
            loaded.append((key, variable.replace(place(value, param, sharding))))
    raise_faults(stored.folder, {"inf or nan": broken})
    assert not variables, f"the table lacks {sorted(variables)}"
    return nnx.merge(graph, nnx.from_flat_state(loaded))


def weights_of_model(model: DiffusionGemma, dtype: np.dtype | None = None) -> Weights:
    """The parameters of a model, to be written.

    Args:
      model: the model.
      dtype: the dtype to be written; None keeps the dtype of each parameter. Quantized values and
        their scales keep theirs in any case.

    Raises:
      CheckpointError: a parameter has a dtype that no format knows.
    """
    state = nnx.state(model, (nnx.Param, QuantizedParam))
    params = {dotted(path): v for path, v in nnx.to_flat_state(state)}
    dtypes = {
        path: np.dtype(v.dtype) if isinstance(v, QuantizedParam) else dtype or known_dtype(v.dtype)
        for path, v in params.items()
    }

    def read(path: str) -> np.ndarray:
        return np.asarray(jax.device_get(params[path][...]))

    precision = quantized_precision(model)
    quantized = precision and Quantization(precision, dtype or known_dtype(model.dtype))
    return Weights("model", model.config, dtypes, read, quantized=quantized)


def weights_of_stored(stored: Stored, dtype: np.dtype | None = None) -> Weights:
    """The parameters of a checkpoint, to be written. A tensor is read when it is asked for.

    Args:
      stored: the checkpoint.
      dtype: the dtype to be written; None keeps the dtype of each tensor. Quantized values and
        their scales keep theirs in any case.
    """
    owner = {path: name for name, tensor in stored.tensors.items() for path in tensor.params}
    dtypes = {
        path: stored.tensors[name].dtype or dtype or stored.dtypes[name]
        for path, name in owner.items()
    }
    quantized = stored.quantized
    if quantized is not None and dtype is not None:
        quantized = dataclasses.replace(quantized, dtype=dtype)
    broken: list[str] = []
    last: dict[str, np.ndarray] = {}  # the parameters in the tensor that was read last

    def read(path: str) -> np.ndarray:
        if path not in last:
            last.clear()
            name = owner[path]
            array = _cast(stored.read(name), stored.tensors[name], dtype)
            if name not in broken and not _is_sound(array, stored.tensors[name]):
                broken.append(name)
            last.update(stored.tensors[name].to_params(array))
        return last[path]

    source, untouched = str(stored.folder), stored.untouched
    return Weights(source, stored.config, dtypes, read, broken, quantized, untouched)


def layout(weights: Weights, tensors: Mapping[str, FileTensor]) -> dict[str, np.dtype]:
    """The dtype of each tensor that a format makes of these weights.

    Args:
      weights: the weights.
      tensors: name -> tensor of the format.

    Returns:
      name of a tensor -> its dtype.

    Raises:
      CheckpointError: the format has no place for some parameters, or has one tensor for parameters
        that differ in value or dtype.
    """
    known = {path for tensor in tensors.values() for path in tensor.params}
    raise_faults(weights.source, {"no place in the format": sorted(set(weights.dtypes) - known)})
    dtypes, other_values, other_dtypes = {}, [], []
    for name, tensor in tensors.items():
        first, *others = tensor.params
        dtypes[name] = weights.dtypes[first]
        if any(weights.dtypes[path] != dtypes[name] for path in others):
            other_dtypes.append(" and ".join(tensor.params))
            continue
        for first, *others in tensor.slices:
            value = weights.read(first).tobytes() if others else b""
            if any(weights.read(path).tobytes() != value for path in others):
                other_values.append(" and ".join((first, *others)))
    faults = {
        "one tensor in this format, but they differ": other_values,
        "one tensor in this format, but their dtypes differ": other_dtypes,
    }
    raise_faults(weights.source, faults)
    return dtypes


def assembled(tensor: FileTensor, weights: Weights) -> np.ndarray:
    """A tensor of a format, made of weights. It has the dtype that weights.read gives.

    It is a view of what weights.read gives if NumPy can make one.
    """
    return tensor.from_params({path: weights.read(path) for path in tensor.params})


def dotted(path: tuple) -> str:
    """The path of a parameter as one string: ("layers", 3, "mlp") -> "layers.3.mlp"."""
    return ".".join(map(str, path))


def place(value: np.ndarray, path: str, sharding: Sharding | None) -> jax.Array:
    """Puts a parameter on the devices where it belongs.

    Args:
      value: the parameter, perhaps a view of a file. The result is no view of it.
      path: the parameter's path.
      sharding: where the parameter goes; None: to the default device.
    """
    where = sharding(path, value.shape) if callable(sharding) else sharding
    devices = jax.local_devices() if where is None else where.device_set
    if any(device.platform == "cpu" for device in devices):
        # JAX may use the array itself, and a model must not be a view of a file.
        value = np.array(value, order="C")
    # Without this wait, the transfers under way would keep many tensors in host memory.
    return jax.block_until_ready(jax.device_put(value, where))


def _is_sound(array: np.ndarray, tensor: FileTensor) -> bool:
    """Whether an array has no inf and no nan; bounds may be infinite."""
    return is_finite(array) or (tensor.may_be_infinite and not np.isnan(array).any())


def _cast(array: np.ndarray, tensor: FileTensor, dtype: np.dtype | None) -> np.ndarray:
    if dtype is None or tensor.dtype is not None:
        return array
    with np.errstate(over="ignore"):  # an overflow becomes inf, which is_finite finds
        return array.astype(dtype, copy=False)
