"""Folders with checkpoints: which format they are in, and what belongs together.

"Whole" is a checkpoint with all its weights. A LoRA checkpoint, a LoRA run's or PEFT's, has factors
only: the weights are its base's.
"""

import os
from pathlib import Path

from diffusiongemma.config import PRESETS, ModelConfig
from diffusiongemma.formats import orbax_tree
from diffusiongemma.formats.adapter import Adapter
from diffusiongemma.formats.google import open_google
from diffusiongemma.formats.hf import CONFIG, is_hf, open_hf, pickles, read_config
from diffusiongemma.formats.orbax import (
    description,
    is_orbax,
    is_run,
    latest_step,
    open_lora,
    open_orbax,
)
from diffusiongemma.formats.peft import is_peft, open_peft, peft_base
from diffusiongemma.formats.weights import CheckpointError, Stored


def open_checkpoint(
    path: str | os.PathLike,
    config: ModelConfig | str | os.PathLike | None = None,
    base: str | os.PathLike | None = None,
) -> tuple[Stored, Adapter | None]:
    """A whole checkpoint and None, or a LoRA checkpoint's base and its factors.

    Headers are read and checked; of the weights no more than a fingerprint takes. For arguments and
    errors see checkpoint.load_checkpoint.
    """
    folder = _step(Path(path))
    named = _base(folder, base)
    if named is None:
        stored = _open_whole(folder, config)
        if base is not None:
            raise CheckpointError(f"{folder}: has all its weights, and so no base")
        return stored, None
    below = _step(named)
    if _is_lora(below):
        raise CheckpointError(f"{named}: LoRA factors are no base: merge them with scripts.convert")
    stored = _open_whole(below, config)
    return stored, (open_peft if is_peft(folder) else open_lora)(folder, named, stored)


def companion_folder(path: str | os.PathLike, base: str | os.PathLike | None = None) -> Path:
    """Where a checkpoint's tokenizer and its like are: in its base if it has only LoRA factors."""
    folder = Path(path)
    named = _base(_step(folder), base)
    return folder if named is None or (folder / "tokenizer.json").is_file() else named


def _step(folder: Path) -> Path:
    """The folder, or a run's latest checkpoint in it."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    other = is_hf(folder) or is_orbax(folder) or orbax_tree.is_tree(folder)
    return latest_step(folder) if is_run(folder) and not other else folder


def _is_lora(folder: Path) -> bool:
    return is_peft(folder) or (is_orbax(folder) and description(folder)["lora"]["rank"] > 0)


def _base(folder: Path, given: str | os.PathLike | None) -> Path | None:
    """The base of a LoRA checkpoint: the one given, else what it names; None of a whole one."""
    if not _is_lora(folder):
        return None
    if given is not None:
        base = Path(given)
    elif is_peft(folder):
        base = peft_base(folder)
    else:
        base = Path(init) if (init := description(folder)["init"]) else None
    if base is None or not base.is_dir():
        where = "it does not name" if base is None else f"{base} is not there"
        raise CheckpointError(f"{folder}: LoRA factors whose base {where}: give it (--base)")
    return base


def _open_whole(folder: Path, config: ModelConfig | str | os.PathLike | None) -> Stored:
    bare_tree = orbax_tree.is_tree(folder) and not is_hf(folder)
    if config is not None and not bare_tree:
        raise CheckpointError(f"{folder}: not in Google's layout, so it has its own config")
    if is_hf(folder):
        return open_hf(folder)
    if bare_tree:
        return open_google(folder, None if config is None else _named_config(config))
    if is_orbax(folder):
        return open_orbax(folder)
    if pickles(folder):
        raise CheckpointError(
            f"{folder}: only pickle files ({', '.join(pickles(folder))}), which can run code when "
            "they are read, and are not: save the weights as safetensors"
        )
    raise CheckpointError(
        f"{folder}: no checkpoint: expected {CONFIG} and *.safetensors, or a checkpoint of Orbax"
    )


def _named_config(config: ModelConfig | str | os.PathLike) -> ModelConfig:
    if isinstance(config, ModelConfig):
        return config
    if config in PRESETS:
        return PRESETS[config]
    file = Path(config)
    if not file.exists():
        raise CheckpointError(
            f"config {config}: neither a preset ({', '.join(sorted(PRESETS))}) nor a file"
        )
    return read_config(file / CONFIG if file.is_dir() else file)
