"""What a checkpoint format is: one object that recognises, opens and writes checkpoints.

Each format is defined in a file of its own, as the constant FORMAT, and has one line in
detect.FORMATS. All other code reads that tuple.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.adapter import Adapter
from diffusiongemma.formats.weights import Stored, Weights

FormatName = str  # the name of one of detect.FORMATS
SHARD_BYTES = 5_000_000_000  # the default of WriteOptions.shard_bytes


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """How a whole model is written. A format ignores the options that are not its own.

    Attributes:
      shard_bytes: "hf": the most bytes of weights in one file.
      flat: "google": whether the tree is flat, with a prefix in its keys.
    """

    shard_bytes: int = SHARD_BYTES
    flat: bool = False


@dataclasses.dataclass(frozen=True)
class StoredFactors:
    """LoRA factors on the disk that are not opened yet, because that needs their base.

    Attributes:
      base: the folder of the base that the checkpoint names, or the base's name in the Hugging Face
        hub; None if it names none.
      open: opens and checks the factors, given the base's folder and the opened base.
    """

    base: Path | None
    open: Callable[[Path, Stored], Adapter]


def is_hub_name(path: Path) -> bool:
    """Whether a path that is not there may be the name of a model in the Hugging Face hub."""
    owner = Path(path.parts[0]) if len(path.parts) == 2 else Path()
    return str(owner) not in ("~", "..") and not owner.exists()


def _no_factors(folder: Path) -> StoredFactors | None:
    return None


@dataclasses.dataclass(frozen=True)
class Format:
    """A checkpoint format. A function that the format does not offer is None.

    A folder that is read exists; a folder that is written to exists and is empty. The functions
    raise CheckpointError if a checkpoint is damaged or not supported.

    Attributes:
      name: the format's name, as in `--format=NAME`.
      description: what a folder in the format holds, in one line.
      recognises: (folder) -> whether the folder is in this format. The first format in
        detect.FORMATS that recognises a folder opens it.
      open: (folder, config) -> the whole model in the folder, its tensors checked but not read. The
        config is None unless the caller names one.
      write: (folder, weights, options) writes a whole model.
      factors: (folder) -> the LoRA factors in the folder; None if the folder holds a whole model.
      write_factors: (folder, adapter, final) writes LoRA factors alone; the folder will be renamed
        to `final`. A format has this function or `write`, not both.
      takes_config: whether the caller may name a config, because the checkpoint may lack one.
      holds_quantized: whether the format can hold quantized weights.
      needs_vision: whether other programs need a vision tower in a whole model of this format.
      in_the_way: (folder, weights, options) -> names of files in the folder that `write` would not
        replace and that do not go with what it writes. A format with this function may be saved
        into a folder with files in it. None: only into a new or an empty folder.
    """

    name: FormatName
    description: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path, ModelConfig | None], Stored] | None = None
    write: Callable[[Path, Weights, WriteOptions], None] | None = None
    factors: Callable[[Path], StoredFactors | None] = _no_factors
    write_factors: Callable[[Path, Adapter, Path], None] | None = None
    takes_config: bool = False
    holds_quantized: bool = False
    needs_vision: bool = False
    in_the_way: Callable[[Path, Weights, WriteOptions], list[str]] | None = None
