"""The "orbax" format: this project's own checkpoints, and those of its training runs.

A checkpoint is a folder with "params", an Orbax tree of the parameters, and "model/metadata", a
JSON file with what it takes to build the model. Every checkpoint of a training run is one, with the
optimizer and the data position as further items; the workdir of a run stands for its latest
checkpoint. A checkpoint of a LoRA run holds the factors only, and names the checkpoint that they
were trained on. Weights may be quantized, which no other format can hold.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats import orbax_tree
from diffusiongemma.formats.adapter import Adapter, check_base
from diffusiongemma.formats.checks import (
    CheckpointError,
    known_dtype,
    raise_faults,
    tensor_faults,
)
from diffusiongemma.formats.config_file import read_json
from diffusiongemma.formats.format import Format, StoredFactors, WriteOptions
from diffusiongemma.formats.lora_tables import RUN, factor_tensors
from diffusiongemma.formats.quantized import quantized_tensors
from diffusiongemma.formats.tensor_tables import OWN, FileTensor, file_tensors
from diffusiongemma.formats.weights import (
    Part,
    Quantization,
    Stored,
    Weights,
    assembled,
    dotted,
    layout,
    weights_of_stored,
)
from diffusiongemma.lora import NAMES, reaches
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.quantized_model import EMBEDDING
from files.fields import check_fields
from files.foreign_pattern import matching

RUN_FOLDER = "checkpoints"
PARAMS, MODEL = "params", Path("model", "metadata")
VALUE = "value"  # the leaf that Orbax makes of an nnx variable


@dataclasses.dataclass(frozen=True)
class Description:
    """What a checkpoint says about its model.

    Attributes:
      config: the shape of the model.
      dtype: the dtype of the weights, and of the base's weights while LoRA factors were trained.
      init: the checkpoint that the training run started from; "" if it started at random.
      rank: the rank of LoRA factors; 0 if the checkpoint holds a whole model.
      alpha: the product of LoRA factors is scaled by alpha / rank.
      pattern: which linear maps have a pair of factors (lora.matches).
      factors: the paths of all factors; None if the pattern says where they are.
      base_fingerprint: fingerprint of the base that the factors were trained on; "" if it is not
        known, as in old checkpoints.
      quantized: how the matrices are quantized; None if they are not.

    Raises:
      ValueError: a field has a wrong value.
    """

    config: ModelConfig
    dtype: np.dtype
    init: str
    rank: int
    alpha: float
    pattern: str
    factors: tuple[str, ...] | None
    base_fingerprint: str
    quantized: Quantization | None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rank < 0:
            raise ValueError(f"lora.rank must not be negative, not {self.rank}")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"lora.pattern is no regular expression: {error}") from None

    def factors_among(self, paths: Iterable[str]) -> set[str]:
        """Those of the paths, each of a factor that the model could have, that have one here.

        Raises:
          ValueError: the pattern is no regular expression, or takes too much time or memory.
        """
        if self.factors is not None:
            return set(self.factors).intersection(paths)
        paths = [path for path in paths if path.rpartition(".")[2] in NAMES[None]]
        maps = {path.rpartition(".")[0] for path in paths}
        maps = {path for path in maps if reaches(self.pattern, path)}
        found = set(matching(self.pattern, maps, whole=False))
        return {path for path in paths if path.rpartition(".")[0] in found}


def is_run(folder: Path) -> bool:
    """Whether a folder is the workdir of a training run."""
    return (folder / RUN_FOLDER).is_dir()


def is_orbax(folder: Path) -> bool:
    """Whether a folder is a checkpoint of this project."""
    return orbax_tree.is_tree(folder / PARAMS) and (folder / MODEL).is_file()


def latest_step(folder: Path) -> Path:
    """The newest checkpoint in the workdir of a run. CheckpointError if there is none yet."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager((folder / RUN_FOLDER).absolute()) as manager:
        step = manager.latest_step()
    if step is None:
        raise CheckpointError(f"{folder}: the run has not saved a checkpoint yet")
    return folder / RUN_FOLDER / str(step)


def description(folder: Path) -> Description:
    """Reads what a checkpoint says about its model. CheckpointError if it is damaged."""
    content = read_json(folder / MODEL)
    try:
        config = ModelConfig.from_fields(content["config"])
        dtype, quantized, lora = known_dtype(content["dtype"]), None, content["lora"]
        if (about := content.get("quantized")) is not None:
            if about["precision"] not in get_args(Precision):
                raise ValueError(f"quantized as {about['precision']}")
            quantized = Quantization(about["precision"], dtype, about["fingerprint"])
        return Description(
            config=config,
            dtype=dtype,
            init=content["init"],
            rank=lora["rank"],
            alpha=lora["alpha"] if lora["rank"] else 0,
            pattern=lora["pattern"] if lora["rank"] else "",
            factors=tuple(lora["factors"]) if "factors" in lora else None,
            base_fingerprint=content.get("base_fingerprint", ""),
            quantized=quantized,
        )
    except KeyError as error:
        raise CheckpointError(f"{folder / MODEL}: has no field {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / MODEL}: does not describe a model: {error}") from None


def open_orbax(folder: Path) -> Stored:
    """Opens the whole model in a checkpoint or in a run's workdir: reads and checks its headers.

    Raises:
      CheckpointError: the description is damaged; or everything that is missing, superfluous,
        misshapen or of an unknown dtype, together.
    """
    folder = _checkpoint(folder)
    about = description(folder)
    stored = _open_params(folder, about.config, _tensors(about.config, about.quantized))
    return dataclasses.replace(stored, quantized=about.quantized)


def run_factors(folder: Path) -> StoredFactors | None:
    """The LoRA factors in a checkpoint or in a run's workdir; None if it holds a whole model."""
    folder = _checkpoint(folder)
    about = description(folder)
    if about.rank == 0:
        return None

    def open_factors(base: Path, stored: Stored) -> Adapter:
        check_base(folder, about.base_fingerprint, base, stored)
        config = dataclasses.replace(stored.config, canvas_size=about.config.canvas_size)
        known = factor_tensors(config, RUN, about.rank)
        try:
            has = about.factors_among(known)
        except ValueError as error:
            raise CheckpointError(f"{folder / MODEL}: lora.pattern: {error}") from None
        expected = {path: tensor for path, tensor in known.items() if path in has}
        weights = weights_of_stored(_open_params(folder, config, expected))
        return Adapter(weights, about.rank, about.alpha, base, about.base_fingerprint, about.dtype)

    return StoredFactors(Path(about.init) if about.init else None, open_factors)


def write_orbax(folder: Path, weights: Weights, options: WriteOptions) -> None:
    """Writes the parameters and the description into an empty folder.

    Raises:
      CheckpointError: the format has no place for some weights.
    """
    from diffusiongemma.formats.orbax_writer import NewLeaf, write_tree  # loads Orbax

    tensors, quantized = _tensors(weights.config, weights.quantized), weights.quantized
    dtypes = layout(weights, tensors)
    leaves = {
        (*name.split("."), VALUE): NewLeaf(
            tensor.shape, dtypes[name], lambda tensor=tensor: assembled(tensor, weights)
        )
        for name, tensor in tensors.items()
    }
    write_tree(folder / PARAMS, leaves)
    model = {
        "config": weights.config.to_fields(),
        "dtype": (quantized.dtype if quantized else dtypes[EMBEDDING]).name,
        "init": "",
        "lora": {"rank": 0},
    }
    if quantized:
        origin = {"fingerprint": quantized.fingerprint}
        model["quantized"] = {"precision": quantized.precision} | origin
    (folder / MODEL).parent.mkdir()
    (folder / MODEL).write_text(json.dumps(model))


def _checkpoint(folder: Path) -> Path:
    """The checkpoint that a folder stands for: itself, or the latest one of a run's workdir."""
    return folder if is_orbax(folder) else latest_step(folder)


def _tensors(config: ModelConfig, quantized: Quantization | None) -> dict[str, FileTensor]:
    tensors = file_tensors(config, OWN)
    return quantized_tensors(tensors, quantized.precision) if quantized else tensors


def _open_params(folder: Path, config: ModelConfig, expected: Mapping[str, FileTensor]) -> Stored:
    leaves = {
        dotted(key).removesuffix(f".{VALUE}"): leaf
        for key, leaf in orbax_tree.open_tree(folder / PARAMS).items()
    }
    found = ((name, *orbax_tree.header(leaf)) for name, leaf in leaves.items())
    raise_faults(folder, tensor_faults(expected, found))
    dtypes = {name: leaf.dtype.numpy_dtype for name, leaf in leaves.items()}

    def read(name: str, part: Part = ...) -> np.ndarray:
        return orbax_tree.read_leaf(folder, leaves[name][part])

    return Stored(folder, config, expected, dtypes, read)


FORMAT = Format(
    name="orbax",
    description="params/ and model/metadata, this project's own; or a training run's workdir",
    recognises=lambda folder: is_orbax(folder) or is_run(folder),
    open=lambda folder, config: open_orbax(folder),
    write=write_orbax,
    factors=run_factors,
    holds_quantized=True,
)
