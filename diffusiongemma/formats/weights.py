"""What all checkpoint formats share: checks in one report, and weights that stream one at a time.

A format's reader gives a Stored, whose tensors lie checked but unread on the disk; load_model makes
a model of it. A format's writer takes Weights, which come from a model or from a Stored. So neither
direction, nor a conversion, ever holds a second copy of the model in host memory.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.tensor_tables import FileTensor
from diffusiongemma.ops.quantized import Precision, QuantizedParam
from diffusiongemma.quantized_model import abstract_model, quantized_precision
from diffusiongemma.transformer import DiffusionGemma

# dtype -> the bits of its exponent, all of which are set in inf and nan.
EXPONENTS = {
    np.dtype(np.float32): 0x7F800000,
    np.dtype(np.float16): 0x7C00,
    np.dtype(ml_dtypes.bfloat16): 0x7F80,
}
LISTED = 20  # names in a report, of each kind of fault

# One sharding for all parameters, or a function of a parameter's path and shape.
Sharding = jax.sharding.Sharding | Callable[[str, tuple[int, ...]], jax.sharding.Sharding]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the message says all that is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How a checkpoint's matrices are quantized.

    Attributes:
      precision: of the experts; see quantized_model.py.
      dtype: of the weights that they stand for, and of the model's activations.
      fingerprint: of the checkpoint that they come from (see adapter.py); "": not known.
    """

    precision: Precision
    dtype: np.dtype
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A checkpoint on the disk: names, shapes and dtypes are right, and nothing is read yet.

    Attributes:
      folder: where it is, for messages.
      config: the model's shape.
      tensors: name -> tensor, in the order in which they are best read.
      dtypes: name -> dtype in the file.
      read: gives the tensor of a name, in the file's layout and dtype, or the part of it that a
        tuple of slices names. It may be a view of the file, which stays mapped for as long as the
        array lives.
      quantized: None: they are not.
    """

    folder: Path
    config: ModelConfig
    tensors: Mapping[str, FileTensor]
    dtypes: Mapping[str, np.dtype]
    read: Callable[..., np.ndarray]
    quantized: Quantization | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """Every parameter of a model, or every LoRA factor, to be written.

    Attributes:
      source: where they are from, for messages.
      config: the model's shape.
      dtypes: path -> dtype to be written; the writer casts.
      read: gives the parameter of a path on the host.
      broken: filled by read: names of tensors with an inf or a nan, which must not be published.
      quantized: None: they are not.
    """

    source: str
    config: ModelConfig
    dtypes: Mapping[str, np.dtype]
    read: Callable[[str], np.ndarray]
    broken: list[str] = dataclasses.field(default_factory=list)
    quantized: Quantization | None = None


def load_model(stored: Stored, dtype: np.dtype | None, sharding: Sharding | None) -> DiffusionGemma:
    """The stored model; nothing in it was ever initialised at random.

    Raises:
      CheckpointError: every tensor with an inf or a nan, after the cast if there is one.
    """
    kind = stored.quantized
    own = jnp.float32 if kind is None else kind.dtype
    abstract = abstract_model(stored.config, dtype or own, kind and kind.precision)
    graph, state = nnx.split(abstract)
    variables = {dotted(path): (path, v) for path, v in nnx.to_flat_state(state)}
    loaded, broken = [], []
    for name, tensor in stored.tensors.items():
        array = _cast(stored.read(name), tensor, dtype)
        if not is_finite(array):
            broken.append(name)
            continue
        for param, value in tensor.to_params(array).items():
            key, variable = variables.pop(param)
            loaded.append((key, variable.replace(place(value, param, sharding))))
    report(stored.folder, {"inf or nan": broken})
    assert not variables, f"the table lacks {sorted(variables)}"
    return nnx.merge(graph, nnx.from_flat_state(loaded))


def weights_of_model(model: DiffusionGemma, dtype: np.dtype | None = None) -> Weights:
    """A model's parameters, to be written in `dtype` or each in its own.

    Raises:
      CheckpointError: a parameter of a dtype that no format knows.
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
    """A checkpoint's parameters, read when they are asked for; the last tensor is kept."""
    owner = {path: name for name, tensor in stored.tensors.items() for path in tensor.params}
    dtypes = {
        path: stored.tensors[name].dtype or dtype or stored.dtypes[name]
        for path, name in owner.items()
    }
    quantized = stored.quantized
    if quantized is not None and dtype is not None:
        quantized = dataclasses.replace(quantized, dtype=dtype)
    broken: list[str] = []
    last: dict[str, np.ndarray] = {}

    def read(path: str) -> np.ndarray:
        if path not in last:
            last.clear()
            name = owner[path]
            array = _cast(stored.read(name), stored.tensors[name], dtype)
            if name not in broken and not is_finite(array):
                broken.append(name)
            last.update(stored.tensors[name].to_params(array))
        return last[path]

    return Weights(str(stored.folder), stored.config, dtypes, read, broken, quantized)


def layout(weights: Weights, tensors: Mapping[str, FileTensor]) -> dict[str, np.dtype]:
    """The dtype of each of the tensors that a format makes of these weights.

    Raises:
      CheckpointError: parameters without a place in the format, or that share one tensor there and
        differ in value or dtype.
    """
    known = {path for tensor in tensors.values() for path in tensor.params}
    report(weights.source, {"no place in the format": sorted(set(weights.dtypes) - known)})
    faults: dict[str, list[str]] = {"one tensor there, and they differ": [], "dtypes differ": []}
    dtypes = {}
    for name, tensor in tensors.items():
        first, *others = tensor.params
        dtypes[name] = weights.dtypes[first]
        if any(weights.dtypes[path] != dtypes[name] for path in others):
            faults["dtypes differ"].append(" and ".join(tensor.params))
        elif others and not tensor.axes.startswith("part "):
            value = weights.read(first).tobytes()
            if any(weights.read(path).tobytes() != value for path in others):
                faults["one tensor there, and they differ"].append(" and ".join(tensor.params))
    report(weights.source, faults)
    return dtypes


def assembled(tensor: FileTensor, weights: Weights) -> np.ndarray:
    """A tensor of a format, in the dtype of the weights' source; a view where NumPy can."""
    return tensor.from_params({path: weights.read(path) for path in tensor.params})


def tensor_faults(
    tensors: Mapping[str, FileTensor],
    found: Iterable[tuple[str, tuple[int, ...], np.dtype | str]],
) -> dict[str, list[str]]:
    """What is wrong with the (name, shape, dtype) found in a checkpoint, for report()."""
    faults = {kind: [] for kind in ("missing", "extra", "twice", "shape", "dtype")}
    seen = set()
    for name, shape, dtype in found:
        if name not in tensors:
            faults["extra"].append(name)
            continue
        if name in seen:
            faults["twice"].append(name)
        seen.add(name)
        if shape != tensors[name].shape:
            faults["shape"].append(f"{name} is {list(shape)}, not {list(tensors[name].shape)}")
        allowed = EXPONENTS if (only := tensors[name].dtype) is None else (only,)
        if not isinstance(dtype, np.dtype) or dtype not in allowed:
            faults["dtype"].append(f"{name} is {dtype}")
    faults["missing"] = [name for name in tensors if name not in seen]
    return faults


def report(place: Path | str, faults: dict[str, list[str]]) -> None:
    """Raises CheckpointError if there is any fault, listing up to LISTED of each kind."""
    lines = []
    for kind, names in faults.items():
        if names:
            more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
            lines.append(f"{kind} ({len(names)}): {', '.join(names[:LISTED])}{more}")
    if lines:
        raise CheckpointError("\n  ".join([f"{place}:", *lines]))


def known_dtype(dtype) -> np.dtype:
    """float32, float16 or bfloat16 as a NumPy dtype; CheckpointError for any other."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in list(EXPONENTS):
        name = dtype if found is None else found.name
        known = ", ".join(d.name for d in EXPONENTS)
        raise CheckpointError(f"dtype {name}: expected one of {known}")
    return found


def is_finite(array: np.ndarray) -> bool:
    """Whether no element is inf or nan; a few MB of temporary memory at most."""
    if array.dtype.kind in "iu":
        return True
    exponent = EXPONENTS[array.dtype]
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")
    size = 1 << 21
    return not any(
        np.any((bits[i : i + size] & exponent) == exponent) for i in range(0, bits.size, size)
    )


def dotted(path: tuple) -> str:
    """A parameter's path in a module as one string."""
    return ".".join(map(str, path))


def _cast(array: np.ndarray, tensor: FileTensor, dtype: np.dtype | None) -> np.ndarray:
    if dtype is None or tensor.dtype is not None:
        return array
    with np.errstate(over="ignore"):  # becomes inf, and is reported with the tensor's name
        return array.astype(dtype, copy=False)


def place(value: np.ndarray, path: str, sharding: Sharding | None) -> jax.Array:
    """The parameter of a path, where it belongs; never a view of a file."""
    where = sharding(path, value.shape) if callable(sharding) else sharding
    devices = jax.local_devices() if where is None else where.device_set
    if any(device.platform == "cpu" for device in devices):
        # JAX may take the array as it is, and a model must not be a view of a file.
        value = np.array(value, order="C")
    # Waited for, or transfers under way would keep many tensors in host memory.
    return jax.block_until_ready(jax.device_put(value, where))
