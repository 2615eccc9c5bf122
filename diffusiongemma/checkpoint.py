"""Checkpoints in the released layout: config.json and *.safetensors, read and written.

Tensors stream through one at a time, so that neither direction ever holds a second copy of the
model in host memory. Only the text model is read; the vision tower's tensors are left aside, and a
checkpoint written here has none.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from diffusiongemma import convert
from diffusiongemma.hf_config import config_from_hf, config_to_hf
from diffusiongemma.run_checkpoint import is_run, load_run
from diffusiongemma.transformer import DiffusionGemma

# safetensors' name -> dtype, and the bits of the exponent, all of which are set in inf and nan.
DTYPES = {
    "F32": (np.dtype(np.float32), 0x7F800000),
    "F16": (np.dtype(np.float16), 0x7C00),
    "BF16": (np.dtype(ml_dtypes.bfloat16), 0x7F80),
}
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
LISTED = 20  # names in a report, of each kind of fault

# One sharding for all parameters, or a function of a parameter's path and shape.
Sharding = jax.sharding.Sharding | Callable[[str, tuple[int, ...]], jax.sharding.Sharding]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the message says all that is wrong with it."""


def load_checkpoint(
    path: str | os.PathLike, dtype=None, sharding: Sharding | None = None
) -> DiffusionGemma:
    """The model in a folder of the released layout, or a training run's latest one.

    Args:
      path: a folder with config.json and one or more *.safetensors, with or without an index; or
        the workdir of a run of train.main.
      dtype: of the parameters: float32, bfloat16 or float16; None keeps each tensor's own.
      sharding: where parameters go; None: the default device.

    Returns:
      The model; nothing in it was ever initialised at random.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen, of an unknown dtype or
        cut short, together; if there is nothing of that kind, every tensor with an inf or a nan.
    """
    folder = Path(path)
    dtype = None if dtype is None else _known_dtype(dtype)
    if is_run(folder):
        return load_run(folder, dtype, load_checkpoint)
    files = _tensor_files(folder)
    config = _read_config(folder)
    tensors = convert.file_tensors(config, convert.HF)
    owner = _check_headers(folder, files, tensors)

    abstract = nnx.eval_shape(
        lambda: DiffusionGemma(config, rngs=nnx.Rngs(0), dtype=dtype or jnp.float32)
    )
    graph, state = nnx.split(abstract)
    variables = {_dotted(path): (path, v) for path, v in nnx.to_flat_state(state)}
    loaded, broken = [], []
    for name, array in _stream(folder, owner):
        if dtype is not None:
            with np.errstate(over="ignore"):  # reported below, with the name
                array = array.astype(dtype)
        if not _is_finite(array):
            broken.append(name)
            continue
        for param, value in tensors[name].to_params(array).items():
            key, variable = variables.pop(param)
            where = sharding(param, value.shape) if callable(sharding) else sharding
            loaded.append((key, variable.replace(jax.device_put(value, where))))
    _report(folder, {"inf or nan": broken})
    assert not variables, f"the table lacks {sorted(variables)}"
    return nnx.merge(graph, nnx.from_flat_state(loaded))


def save_checkpoint(model: DiffusionGemma, path: str | os.PathLike, dtype=None) -> None:
    """Writes a folder that load_checkpoint and transformers 5.23.0 load: config.json and weights.

    Files get their names when they are complete; after an error nothing half-written is left. The
    tokenizer and generation_config.json are not the model's, and not written.

    Args:
      model: without LoRA factors: merge them first.
      path: a folder, made if need be.
      dtype: of the tensors written; None keeps each parameter's own.

    Raises:
      CheckpointError: parameters that the format has no place for, a dtype it does not know, a
        folder with other weights in it, or a disk that is full or read-only.
    """
    folder = Path(path)
    dtype = None if dtype is None else _known_dtype(dtype)
    try:
        config = config_to_hf(model.config)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    params = {_dotted(p): v[...] for p, v in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    tensors = convert.file_tensors(model.config, convert.HF)
    known = {param for tensor in tensors.values() for param in tensor.params}
    _report(folder, {"no place in the format": sorted(set(params) - known)})
    others = [f.name for f in folder.glob("*.safetensors*") if f.name != WEIGHTS]
    _report(folder, {"other weights in the way": sorted(others)})

    dtypes = {
        name: dtype or _known_dtype(params[next(iter(tensor.params))].dtype)
        for name, tensor in tensors.items()
    }
    # Wide dtypes first, so that every tensor is aligned to its own size.
    order = sorted(tensors, key=lambda name: (-dtypes[name].itemsize, name))
    config["dtype"] = dtypes[order[0]].name
    made = [p for p in [folder, *folder.parents] if not p.exists()]
    temporary = {name: folder / f"{name}.tmp{os.getpid()}" for name in (WEIGHTS, CONFIG)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary[WEIGHTS].open("wb") as file:
            file.write(_header({name: (tensors[name].shape, dtypes[name]) for name in order}))
            for name in order:
                host = {p: np.asarray(jax.device_get(params[p])) for p in tensors[name].params}
                array = tensors[name].from_params(host).astype(dtypes[name], copy=False)
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
        temporary[CONFIG].write_text(json.dumps(config, indent=2) + "\n")
        for name, file in temporary.items():
            file.replace(folder / name)
    except BaseException as error:
        with contextlib.suppress(OSError):
            for file in temporary.values():
                file.unlink(missing_ok=True)
            for directory in made:
                directory.rmdir()
        if isinstance(error, OSError):
            raise CheckpointError(f"{folder}: could not be saved: {error.strerror}") from None
        raise


def _tensor_files(folder: Path) -> list[str]:
    """Names of the safetensors files; those of the index where there is one."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    files = sorted(f.name for f in folder.glob("*.safetensors"))
    if (folder / INDEX).exists():
        files = sorted(set(_read_json(folder / INDEX).get("weight_map", {}).values()))
    if not files:
        raise CheckpointError(f"{folder}: no checkpoint: expected {CONFIG} and *.safetensors")
    return files


def _read_config(folder: Path):
    if not (folder / CONFIG).exists():
        raise CheckpointError(f"{folder}: no {CONFIG}")
    try:
        return config_from_hf(_read_json(folder / CONFIG))
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: not a JSON object")
    return content


def _check_headers(
    folder: Path, files: list[str], tensors: dict[str, convert.FileTensor]
) -> dict[str, list[str]]:
    """file -> the names of its tensors to read; raises with everything that the headers show."""
    faults = {k: [] for k in ("cannot be read", "missing", "extra", "twice", "shape", "dtype")}
    owner: dict[str, list[str]] = {file: [] for file in files}
    seen = set()
    for file in files:
        try:
            with safe_open(folder / file, framework="numpy") as opened:
                headers = {name: opened.get_slice(name) for name in opened.offset_keys()}
                headers = {n: (tuple(h.get_shape()), h.get_dtype()) for n, h in headers.items()}
        except FileNotFoundError:
            faults["cannot be read"].append(f"{file} is not there")
            continue
        except (OSError, SafetensorError) as error:
            faults["cannot be read"].append(f"{file} is cut short or damaged ({error})")
            continue
        for name, (shape, dtype) in headers.items():
            if name.startswith(convert.HF_SKIPPED_PREFIXES):
                continue
            if name not in tensors:
                faults["extra"].append(name)
                continue
            if name in seen:
                faults["twice"].append(name)
            seen.add(name)
            owner[file].append(name)
            if shape != tensors[name].shape:
                expected = list(tensors[name].shape)
                faults["shape"].append(f"{name} is {list(shape)}, not {expected}")
            if dtype not in DTYPES:
                faults["dtype"].append(f"{name} is {dtype}")
    # With a file unreadable, what it held would only add noise.
    if not faults["cannot be read"]:
        faults["missing"] = [name for name in tensors if name not in seen]
    _report(folder, faults)
    return owner


def _stream(folder: Path, owner: dict[str, list[str]]) -> Iterator[tuple[str, np.ndarray]]:
    for file, names in owner.items():
        with safe_open(folder / file, framework="numpy") as opened:
            for name in names:
                yield name, opened.get_tensor(name)


def _header(tensors: dict[str, tuple[tuple[int, ...], np.dtype]]) -> bytes:
    """The start of a safetensors file whose tensors follow in this order."""
    names = {dtype: name for name, (dtype, _) in DTYPES.items()}
    entries: dict = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (shape, dtype) in tensors.items():
        end = offset + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": names[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _is_finite(array: np.ndarray) -> bool:
    """Whether no element is inf or nan; a few MB of temporary memory at most."""
    exponent = {dtype: mask for dtype, mask in DTYPES.values()}[array.dtype]
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")
    size = 1 << 21
    return not any(
        np.any((bits[i : i + size] & exponent) == exponent) for i in range(0, bits.size, size)
    )


def _known_dtype(dtype) -> np.dtype:
    known = [d for d, _ in DTYPES.values()]
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in known:
        name = dtype if found is None else found.name
        raise CheckpointError(f"dtype {name}: expected one of {', '.join(d.name for d in known)}")
    return found


def _report(folder: Path, faults: dict[str, list[str]]) -> None:
    """Raises CheckpointError if there is any fault, listing up to LISTED of each kind."""
    lines = []
    for kind, names in faults.items():
        if names:
            more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
            lines.append(f"{kind} ({len(names)}): {', '.join(names[:LISTED])}{more}")
    if lines:
        raise CheckpointError("\n  ".join([f"{folder}:", *lines]))


def _dotted(path: tuple) -> str:
    return ".".join(map(str, path))
