"""This project's own checkpoints: a tree of parameters beside what it takes to build the model.

A folder with "params", an Orbax tree, and "model/metadata", JSON. Every checkpoint of a training
run is one, with its optimizer and data position as further items; a LoRA run's holds the factors
only, and names the checkpoint that they were trained on. Weights may be quantized, which no other
format holds.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import orbax.checkpoint as ocp

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats import orbax_tree
from diffusiongemma.formats.adapter import Adapter, check_base
from diffusiongemma.formats.hf import read_json
from diffusiongemma.formats.lora_tables import RUN, factor_tensors
from diffusiongemma.formats.quantized import quantized_tensors
from diffusiongemma.formats.tensor_tables import ORBAX, FileTensor, file_tensors
from diffusiongemma.formats.weights import (
    CheckpointError,
    Quantization,
    Stored,
    Weights,
    assembled,
    dotted,
    known_dtype,
    layout,
    report,
    tensor_faults,
    weights_of_stored,
)
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.quantized_model import EMBEDDING

RUN_FOLDER = "checkpoints"
PARAMS, MODEL = "params", Path("model", "metadata")
VALUE = "value"  # the leaf that Orbax makes of an nnx variable


def is_run(folder: Path) -> bool:
    """Whether a folder is a training run's workdir."""
    return (folder / RUN_FOLDER).is_dir()


def is_orbax(folder: Path) -> bool:
    """Whether a folder is a checkpoint of this project."""
    return orbax_tree.is_tree(folder / PARAMS) and (folder / MODEL).is_file()


def latest_step(folder: Path) -> Path:
    """The newest checkpoint in a run's workdir; CheckpointError if there is none yet."""
    with ocp.CheckpointManager((folder / RUN_FOLDER).absolute()) as manager:
        step = manager.latest_step()
    if step is None:
        raise CheckpointError(f"{folder}: the run has not saved a checkpoint yet")
    return folder / RUN_FOLDER / str(step)


def description(folder: Path) -> dict[str, Any]:
    """What was saved beside the parameters: "config" (a ModelConfig), "dtype", "init", "lora".

    And "quantized", a Quantization or None. Of a LoRA run "base_fingerprint" is that of the
    checkpoint at "init"; "" in old ones.

    Raises:
      CheckpointError: it is damaged.
    """
    content = read_json(folder / MODEL)
    try:
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in content["config"].items()}
        config = ModelConfig(**fields)
        _ = content["init"], content["lora"]["rank"]
        if content["lora"]["rank"]:
            _ = content["lora"]["alpha"], content["lora"]["pattern"]
        dtype, quantized = known_dtype(content["dtype"]), content.get("quantized")
        if quantized is not None:
            if quantized["precision"] not in get_args(Precision):
                raise ValueError(f"quantized as {quantized['precision']}")
            quantized = Quantization(quantized["precision"], dtype, quantized["fingerprint"])
        about = content | {"config": config, "dtype": dtype, "quantized": quantized}
        return {"base_fingerprint": ""} | about
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / MODEL}: no description of a model: {error}") from None


def open_orbax(folder: Path) -> Stored:
    """The checkpoint of a whole model in a folder, its headers read and checked.

    Raises:
      CheckpointError: a damaged description; or everything that is missing, superfluous, misshapen
        or of an unknown dtype, together.
    """
    about = description(folder)
    config, quantized = about["config"], about["quantized"]
    stored = _open_params(folder, config, _tensors(config, quantized))
    return dataclasses.replace(stored, quantized=quantized)


def open_lora(folder: Path, base: Path, stored: Stored) -> Adapter:
    """The factors of a LoRA run's checkpoint, its headers read and checked.

    Args:
      folder: the checkpoint.
      base, stored: what the run started from.

    Raises:
      CheckpointError: it started from another base, or the factors are not those expected.
    """
    about = description(folder)
    check_base(folder, about["base_fingerprint"], base, stored)
    rank, alpha, pattern = (about["lora"][field] for field in ("rank", "alpha", "pattern"))
    config = dataclasses.replace(stored.config, canvas_size=about["config"].canvas_size)
    expected = {
        path: tensor
        for path, tensor in factor_tensors(config, RUN, rank).items()
        if re.search(pattern, path.rpartition(".")[0])
    }
    weights = weights_of_stored(_open_params(folder, config, expected))
    return Adapter(weights, rank, alpha, base, about["base_fingerprint"], about["dtype"])


def write_orbax(folder: Path, weights: Weights) -> None:
    """Writes the parameters and the description into an empty folder."""
    tensors, quantized = _tensors(weights.config, weights.quantized), weights.quantized
    dtypes = layout(weights, tensors)
    leaves = {
        (*name.split("."), VALUE): orbax_tree.Leaf(
            tensor.shape, dtypes[name], lambda tensor=tensor: assembled(tensor, weights)
        )
        for name, tensor in tensors.items()
    }
    orbax_tree.write_tree(folder / PARAMS, leaves)
    model = {
        "config": dataclasses.asdict(weights.config),
        "dtype": (quantized.dtype if quantized else dtypes[EMBEDDING]).name,
        "init": "",
        "lora": {"rank": 0},
    }
    if quantized:
        origin = {"fingerprint": quantized.fingerprint}
        model["quantized"] = {"precision": quantized.precision} | origin
    (folder / MODEL).parent.mkdir()
    (folder / MODEL).write_text(json.dumps(model))


def _tensors(config: ModelConfig, quantized: Quantization | None) -> dict[str, FileTensor]:
    tensors = file_tensors(config, ORBAX)
    return quantized_tensors(tensors, quantized.precision) if quantized else tensors


def _open_params(folder: Path, config: ModelConfig, expected: Mapping[str, FileTensor]) -> Stored:
    leaves = {
        dotted(key).removesuffix(f".{VALUE}"): leaf
        for key, leaf in orbax_tree.open_tree(folder / PARAMS).items()
    }
    found = ((name, *orbax_tree.header(leaf)) for name, leaf in leaves.items())
    report(folder, tensor_faults(expected, found))
    dtypes = {name: leaf.dtype.numpy_dtype for name, leaf in leaves.items()}

    def read(name: str, at=...) -> np.ndarray:
        return orbax_tree.read_leaf(folder, leaves[name][at])

    return Stored(folder, config, expected, dtypes, read)
