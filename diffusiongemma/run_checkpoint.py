"""This project's own checkpoints: a tree of parameters beside what it takes to build the model.

A folder with "params", an Orbax tree, and "model/metadata", JSON. Every checkpoint of a training
run is one, with its optimizer and data position as further items; a LoRA run's holds the factors
only, and names the checkpoint that they were trained on.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from diffusiongemma import orbax_tree
from diffusiongemma.config import ModelConfig
from diffusiongemma.convert import ORBAX, file_tensors
from diffusiongemma.hf_checkpoint import read_json
from diffusiongemma.lora import add_lora
from diffusiongemma.tensors import (
    CheckpointError,
    Stored,
    Weights,
    assembled,
    dotted,
    known_dtype,
    layout,
    report,
    tensor_faults,
)
from diffusiongemma.transformer import DiffusionGemma

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

    Raises:
      CheckpointError: it is damaged.
    """
    content = read_json(folder / MODEL)
    try:
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in content["config"].items()}
        config = ModelConfig(**fields)
        _ = content["init"], content["lora"]["rank"]
        return content | {"config": config, "dtype": known_dtype(content["dtype"])}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / MODEL}: no description of a model: {error}") from None


def open_orbax(folder: Path, config: ModelConfig) -> Stored:
    """The checkpoint of a whole model in a folder, its headers read and checked.

    Raises:
      CheckpointError: everything that is missing, superfluous, misshapen or of an unknown dtype,
        together.
    """
    expected = file_tensors(config, ORBAX)
    leaves = _checked_leaves(folder, expected)
    dtypes = {name: leaf.dtype.numpy_dtype for name, leaf in leaves.items()}

    def read(name: str) -> np.ndarray:
        return orbax_tree.read_leaf(folder, leaves[name])

    return Stored(folder, config, expected, dtypes, read)


def write_orbax(folder: Path, weights: Weights) -> None:
    """Writes the parameters and the description into an empty folder."""
    tensors, dtypes = layout(weights, ORBAX)
    leaves = {
        (*name.split("."), VALUE): orbax_tree.Leaf(
            tensor.shape, dtypes[name], lambda tensor=tensor: assembled(tensor, weights)
        )
        for name, tensor in tensors.items()
    }
    orbax_tree.write_tree(folder / PARAMS, leaves)
    model = {
        "config": dataclasses.asdict(weights.config),
        "dtype": dtypes["embedder.embedding"].name,
        "init": "",
        "lora": {"rank": 0},
    }
    (folder / MODEL).parent.mkdir()
    (folder / MODEL).write_text(json.dumps(model))


def load_lora(
    folder: Path, dtype: np.dtype | None, load_init: Callable[..., DiffusionGemma]
) -> DiffusionGemma:
    """The model of a LoRA run's checkpoint, with the factors beside the weights.

    Args:
      folder: the checkpoint.
      dtype: of the weights; None keeps the run's. LoRA factors stay float32.
      load_init: loads the checkpoint that the run started from.

    Raises:
      CheckpointError: that checkpoint cannot be loaded, or the factors do not fit.
    """
    model_of = description(folder)
    lora = model_of["lora"]
    model = load_init(model_of["init"], dtype=dtype or model_of["dtype"])
    model.config = model_of["config"]
    add_lora(model, lora["rank"], lora["alpha"], rngs=nnx.Rngs(0), pattern=lora["pattern"])
    graphdef, factors, frozen = nnx.split(model, nnx.LoRAParam, ...)
    flat = nnx.to_flat_state(factors)
    leaves = _checked_leaves(folder, {dotted(path): variable for path, variable in flat})
    loaded = []
    for path, variable in flat:
        array = orbax_tree.read_leaf(folder, leaves[dotted(path)]).astype(np.float32)
        loaded.append((path, variable.replace(jax.device_put(array))))
    return nnx.merge(graphdef, nnx.from_flat_state(loaded), frozen)


def _checked_leaves(folder: Path, expected) -> dict[str, Any]:
    """name -> leaf of open_tree; they are all those expected, and no others."""
    leaves = {
        dotted(key).removesuffix(f".{VALUE}"): leaf
        for key, leaf in orbax_tree.open_tree(folder / PARAMS).items()
    }
    found = ((name, *orbax_tree.header(leaf)) for name, leaf in leaves.items())
    report(folder, tensor_faults(expected, found))
    return leaves
