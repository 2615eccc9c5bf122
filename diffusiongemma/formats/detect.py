"""The registry of formats, and which format a folder is in.

A new format is one file with a FORMAT (see format.py), and its line in FORMATS. Loading, saving,
converting, error texts and the flags of scripts.convert read that tuple.
"""

import os
from pathlib import Path

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats import google, hf, orbax, peft
from diffusiongemma.formats.adapter import Adapter
from diffusiongemma.formats.atomic_folder import finish
from diffusiongemma.formats.checks import LISTED, CheckpointError
from diffusiongemma.formats.config_file import find_config
from diffusiongemma.formats.foreign import refuse_gguf, refuse_pickles, unquantized
from diffusiongemma.formats.format import Format, FormatName, StoredFactors, is_hub_name
from diffusiongemma.formats.weights import Stored
from files.regular import SPECIAL, special_among
from files.staging import is_staging

# The first one that recognises a folder opens it. PEFT's adapters have safetensors files too, so
# they come before the released layout.
FORMATS: tuple[Format, ...] = (
    peft.FORMAT,
    hf.FORMAT,
    google.FORMAT,
    orbax.FORMAT,
)


def whole_formats() -> list[FormatName]:
    """Names of the formats in which a whole model can be written."""
    return [format.name for format in FORMATS if format.write is not None]


def written_formats() -> list[FormatName]:
    """Names of the formats in which a whole model, or LoRA factors alone, can be written."""
    return [f.name for f in FORMATS if f.write is not None or f.write_factors is not None]


def quantized_formats() -> list[FormatName]:
    """Names of the formats that can hold quantized weights."""
    return [format.name for format in FORMATS if format.holds_quantized]


def descriptions() -> str:
    """The formats and their descriptions, as one line for help and error texts."""
    return "; ".join(f"{format.name} ({format.description})" for format in FORMATS)


def format_named(name: FormatName, names: list[FormatName]) -> Format:
    """The format of a name; CheckpointError if it is not one of `names`."""
    if name not in names:
        raise CheckpointError(f"format {name}: expected one of {', '.join(names)}")
    return next(format for format in FORMATS if format.name == name)


def recognise(folder: Path) -> Format | None:
    """The format of a folder; None if no format recognises it.

    A save into the folder that was cut off when its files were ready is finished first.

    Raises:
      CheckpointError: there is no such folder, there is a pipe or the like in it, or such a save
        cannot be finished.
    """
    if folder.is_file():
        refuse_gguf(folder)
        raise CheckpointError(f"{folder}: is a file: name the folder of the checkpoint")
    if not folder.is_dir():
        download = ": download the model first" if is_hub_name(folder) else ""
        raise CheckpointError(f"{folder}: no such folder{download}")
    if special := special_among(f for f in sorted(folder.iterdir()) if f.name[0] != "."):
        raise CheckpointError(f"{special}: {SPECIAL}")
    finish(folder)
    return next((format for format in FORMATS if format.recognises(folder)), None)


def open_checkpoint(
    path: str | os.PathLike,
    config: ModelConfig | str | os.PathLike | None = None,
    base: str | os.PathLike | None = None,
) -> tuple[Stored, Adapter | None]:
    """Opens a checkpoint: reads and checks its headers.

    No weights are read, except factors of PEFT and what the fingerprint of a LoRA base needs.

    Args:
      path: as load_checkpoint's (load_save.py).
      config: as load_checkpoint's.
      base: as load_checkpoint's.

    Returns:
      the opened whole model, and None; or the opened base of LoRA factors, and the factors.

    Raises:
      CheckpointError: as load_checkpoint, but tensors with an inf or a nan are not found yet.
    """
    folder = Path(path)
    format = _recognised(folder)
    factors = format.factors(folder)
    if factors is None:
        stored = _open_whole(format, folder, config)
        if base is not None:
            raise CheckpointError(f"{folder}: has all its weights, so it takes no base (--base)")
        return stored, None
    found = _base(folder, factors, base)
    format = _recognised(found)
    if format.factors(found) is not None:
        raise CheckpointError(
            f"{found}: holds LoRA factors, which cannot be a base: merge them with scripts.convert"
        )
    stored = _open_whole(format, found, config)
    return stored, factors.open(found, stored)


def companion_folder(path: str | os.PathLike, base: str | os.PathLike | None = None) -> Path:
    """The folder with a checkpoint's tokenizer, chat template and generation_config.json.

    It is the checkpoint's folder, or its base's if the checkpoint holds only LoRA factors and has
    no tokenizer.json of its own.
    """
    folder = Path(path)
    format = recognise(folder)
    factors = None if format is None else format.factors(folder)
    if factors is None:
        return folder
    found = _base(folder, factors, base)
    return folder if (folder / "tokenizer.json").is_file() else found


def _recognised(folder: Path) -> Format:
    """The format of a folder. CheckpointError if no format recognises it."""
    format = recognise(folder)
    if format is not None:
        return format
    # Perhaps the parent of a training's checkpoints, or of snapshots in the Hugging Face cache.
    for pattern in ("*/", "*/*/"):
        if inside := [str(f) for f in sorted(folder.glob(pattern)) if _is_named(f)]:
            raise CheckpointError(
                f"{folder}: is no checkpoint but holds some: name one: {', '.join(inside[:LISTED])}"
            )
    refuse_gguf(folder)
    refuse_pickles(folder)
    raise CheckpointError(f"{folder}: holds no checkpoint in a known format: {descriptions()}")


def _is_named(folder: Path) -> bool:
    """Whether a folder is a checkpoint, and not one that somebody is writing or has left."""
    made = is_staging(folder.name) or is_staging(folder.parent.name)
    return not made and recognise(folder) is not None


def _base(folder: Path, factors: StoredFactors, given: str | os.PathLike | None) -> Path:
    """The base of LoRA factors: the folder that is given, else the one that they name."""
    base = factors.base if given is None else Path(given)
    if base is None:
        raise CheckpointError(
            f"{folder}: holds LoRA factors but does not name their base: name it (--base)"
        )
    if base.is_dir():
        return base
    fault = "is a file" if base.is_file() else "is not there"
    if given is not None:
        advice = "--base must name its folder"
    elif not is_hub_name(base):
        advice = "name their base (--base)"
    elif (full := unquantized(str(base))) != str(base):
        advice = f"download what it was quantized from (perhaps {full}) and name that (--base)"
    else:
        advice = "download it and name their base (--base)"
    raise CheckpointError(f"{folder}: holds LoRA factors whose base {base} {fault}: {advice}")


def _open_whole(
    format: Format, folder: Path, config: ModelConfig | str | os.PathLike | None
) -> Stored:
    """Opens a whole model with the config that the caller names, if the format takes one."""
    assert format.open is not None, f"{format.name} holds LoRA factors only"
    if config is None:
        return format.open(folder, None)
    if not format.takes_config:
        raise CheckpointError(
            f"{folder}: a checkpoint in the format {format.name} has its own config: leave out "
            "--config"
        )
    return format.open(folder, find_config(config))
