"""Adapters in the layout of PEFT 0.21.2 for transformers 5.23.0: factors alone, read and written.

A folder with adapter_config.json and adapter_model.safetensors. PEFT puts factors beside each
module that the config targets, of the encoder and of the decoder, although the two share their
weights; here they are one, so both must be targeted, with equal factors. (PEFT's own
merge_and_unload adds both to the shared weights, which is once too often: merge with
scripts.convert.) In the metadata of the safetensors file are the base's fingerprint and the canvas
length of the training, which PEFT has no place for.
"""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from diffusiongemma.formats.adapter import Adapter, check_base
from diffusiongemma.formats.hf import open_files, read_json, write_file
from diffusiongemma.formats.lora_tables import PEFT, encoders, factor_tensors
from diffusiongemma.formats.tensor_tables import HF_SKIPPED_PREFIXES, FileTensor
from diffusiongemma.formats.weights import CheckpointError, Stored, report, weights_of_stored

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FINGERPRINT, CANVAS = "base_fingerprint", "canvas_size"  # in the metadata
EXPERTS = ".experts."  # its parameters are stacks, and no modules of their own

# Fields of which these values are the plain LoRA that is here.
CONSTANTS: dict[str, tuple] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian"),  # others change the base
}
READ = {
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "target_parameters",
}
# Fields that say nothing about the factors. All others must be off: null, false or empty.
IGNORED = {
    "auto_mapping",
    "ensure_weight_tying",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}


def is_peft(folder: Path) -> bool:
    """Whether a folder is an adapter of PEFT."""
    return (folder / ADAPTER_CONFIG).is_file()


def peft_base(folder: Path) -> Path | None:
    """The base that an adapter names; relative paths are relative to its folder. None: none."""
    name = _options(folder)["base_model_name_or_path"]
    return folder / name if name else None


def open_peft(folder: Path, base: Path, stored: Stored) -> Adapter:
    """The adapter in a folder, its headers read and checked.

    Args:
      folder: the adapter.
      base, stored: what it belongs to.

    Raises:
      CheckpointError: options of PEFT that are not supported, all named; another base; factors that
        do not fit it; or factors of the encoder that are not the decoder's.
    """
    options, metadata = _options(folder), _metadata(folder)
    check_base(folder, metadata.get(FINGERPRINT, ""), base, stored)
    config = stored.config
    if metadata.get(CANVAS, "").isdecimal():
        config = dataclasses.replace(config, canvas_size=int(metadata[CANVAS]))
    table = factor_tensors(config, PEFT, options["r"])
    modules = {name.rpartition(".")[0] for name in table}
    targeted = {module for module in modules if _is_targeted(options, module)}
    if not targeted:
        raise CheckpointError(f"{folder}: its targets are no linear maps of the text model")
    pairs = [{m, encoders(m)} & targeted for m in modules if encoders(m) != m]
    alone = sorted(pair.pop() for pair in pairs if len(pair) == 1)
    report(folder, {"in encoder or decoder only, and here they share their factors": alone})
    expected = _stored_tensors(table, targeted)
    skipped = tuple(PREFIX + prefix for prefix in HF_SKIPPED_PREFIXES)
    opened = open_files(folder, [ADAPTER_WEIGHTS], config, expected, skipped)
    differ = [
        name
        for name in expected
        if opened.read(name).tobytes() != opened.read(encoders(name)).tobytes()
    ]
    report(folder, {"not the encoder's, and here it shares its factors": differ})
    weights, recorded = weights_of_stored(opened), metadata.get(FINGERPRINT, "")
    return Adapter(weights, options["r"], options["lora_alpha"], base, recorded)


def write_peft(folder: Path, adapter: Adapter, final: Path) -> None:
    """Writes the adapter into an empty folder, which will be at `final`: names a relative base."""
    table = factor_tensors(adapter.weights.config, PEFT, adapter.rank)
    written = {name: t for name, t in table.items() if set(t.params) <= set(adapter.weights.dtypes)}
    modules = {name.rpartition(".")[0] for name in written}
    tensors = _stored_tensors(table, modules)
    dtypes = dict.fromkeys(tensors, np.dtype(np.float32))
    metadata = {CANVAS: str(adapter.weights.config.canvas_size)}
    if adapter.fingerprint:
        metadata[FINGERPRINT] = adapter.fingerprint
    write_file(folder / ADAPTER_WEIGHTS, tensors, dtypes, adapter.weights, metadata)
    base = os.path.relpath(os.path.realpath(adapter.base), os.path.realpath(final))
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if adapter.alpha == int(adapter.alpha) else adapter.alpha,
        "target_modules": sorted(m for m in modules if EXPERTS not in m),
        "target_parameters": sorted(m for m in modules if EXPERTS in m),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _options(folder: Path) -> dict[str, Any]:
    """The fields of READ in the config; CheckpointError naming every one that is not supported."""
    file = folder / ADAPTER_CONFIG
    given = read_json(file)
    problems = []
    for name, value in given.items():
        if name in CONSTANTS:
            if value not in CONSTANTS[name]:
                problems.append(f"{name}: {value!r} is not supported")
        elif name not in READ and name not in IGNORED and value:
            problems.append(f"{name}: {value!r} is not supported")
    options = {name: given.get(name) for name in READ}
    for name, kinds, least in (("r", int, 1), ("lora_alpha", int | float, 0)):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, kinds) or value < least:
            problems.append(f"{name}: expected a number, got {value!r}")
    if not isinstance(options["base_model_name_or_path"], str | None):
        problems.append("base_model_name_or_path: expected a path")
    for name in ("target_modules", "exclude_modules", "target_parameters"):
        try:
            _matches(options[name], "")
        except (TypeError, re.error):
            problems.append(f"{name}: expected names, or a regular expression")
    if problems:
        raise CheckpointError(f"{file}: {'; '.join(problems)}")
    return options


def _metadata(folder: Path) -> dict[str, str]:
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):  # open_files says what is wrong
        return {}


def _is_targeted(options: dict[str, Any], module: str) -> bool:
    if EXPERTS in module:
        return _matches(options["target_parameters"], module)
    excluded = _matches(options["exclude_modules"], module)
    return _matches(options["target_modules"], module) and not excluded


def _matches(targets: str | list[str] | None, module: str) -> bool:
    """As PEFT has it: a regular expression for the whole name, or ends of names."""
    if isinstance(targets, str):
        return bool(re.fullmatch(targets, module))
    return any(f".{module}".endswith("." + target) for target in targets or ())


def _stored_tensors(table: dict[str, FileTensor], modules: set[str]) -> dict[str, FileTensor]:
    """The tensors of the modules that have factors, by their names in the file.

    Of the experts' two stacks, the wrapper of the second lies around that of the first, if both
    have factors.
    """
    stored = {}
    for name, tensor in table.items():
        module, _, factor = name.rpartition(".")
        if module not in modules:
            continue
        experts, is_expert, stack = module.partition(EXPERTS)
        if is_expert:
            inner = stack == "gate_up_proj" and f"{experts}{EXPERTS}down_proj" in modules
            module = f"{experts}.experts.base_layer" if inner else f"{experts}.experts"
        stored[f"{PREFIX}{module}.{factor}.weight"] = tensor
    return stored
