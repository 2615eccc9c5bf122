"""The "peft" format: LoRA factors alone, as PEFT 0.21.2 saves them for transformers 5.23.0.

A folder has adapter_config.json and adapter_model.safetensors. PEFT puts factors beside each module
that the config targets, in the encoder and in the decoder, although the two share their weights.
Here the two are one, so the config must target both, with equal factors. (PEFT's own
merge_and_unload adds the factors of both to the shared weights, which is once too often: merge with
scripts.convert.) The metadata of the safetensors file holds what PEFT has no place for: the
fingerprint of the base, and the canvas size of the training.
"""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.formats.adapter import Adapter, check_base
from diffusiongemma.formats.checks import CheckpointError, raise_faults
from diffusiongemma.formats.config_file import json_text, read_json
from diffusiongemma.formats.format import Format, StoredFactors
from diffusiongemma.formats.lora_tables import PEFT, encoders, factor_tensors
from diffusiongemma.formats.safetensors_file import (
    open_safetensors,
    read_metadata,
    write_safetensors,
)
from diffusiongemma.formats.tensor_tables import HF_SKIPPED_PREFIXES, FileTensor
from diffusiongemma.formats.weights import Stored, weights_of_stored

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FINGERPRINT, CANVAS = "base_fingerprint", "canvas_size"  # keys in the metadata
EXPERTS = ".experts."  # the stacks of experts are parameters of one module

# Fields of the config that must have one of these values: plain LoRA, which is all that is here.
CONSTANTS: dict[str, tuple] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian"),  # others change the base
}
# Fields of the config that are read.
READ = {
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "target_parameters",
}
# Fields that say nothing about the factors. All other fields must be off: null, false or empty.
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
    """Whether a folder is an adapter that PEFT saved."""
    return (folder / ADAPTER_CONFIG).is_file()


def peft_factors(folder: Path) -> StoredFactors:
    """The LoRA factors of an adapter. A relative path of its base starts at the adapter's folder.

    Raises:
      CheckpointError: options of PEFT that are not supported. It names them all.
    """
    options = _options(folder)
    name = options["base_model_name_or_path"]
    return StoredFactors(
        folder / name if name else None,
        lambda base, stored: _open_factors(folder, options, base, stored),
    )


def _open_factors(folder: Path, options: dict[str, Any], base: Path, stored: Stored) -> Adapter:
    """Opens the factors of an adapter: reads and checks their headers.

    Args:
      folder: the adapter.
      options: what _options gives.
      base: folder of the base.
      stored: the opened base.

    Raises:
      CheckpointError: the factors were trained on another base, do not fit the base, or differ
        between encoder and decoder.
    """
    metadata = read_metadata(folder / ADAPTER_WEIGHTS)
    check_base(folder, metadata.get(FINGERPRINT, ""), base, stored)
    config = stored.config
    if metadata.get(CANVAS, "").isdecimal():
        config = dataclasses.replace(config, canvas_size=int(metadata[CANVAS]))
    table = factor_tensors(config, PEFT, options["r"])
    modules = {name.rpartition(".")[0] for name in table}
    targeted = {module for module in modules if _is_targeted(options, module)}
    if not targeted:
        raise CheckpointError(
            f"{folder}: its target_modules and target_parameters name no linear map of the text "
            "model"
        )
    pairs = [{m, encoders(m)} & targeted for m in modules if encoders(m) != m]
    alone = sorted(pair.pop() for pair in pairs if len(pair) == 1)
    raise_faults(folder, {"targets in only one of encoder and decoder, which share them": alone})
    expected = _stored_tensors(table, targeted)
    skipped = tuple(PREFIX + prefix for prefix in HF_SKIPPED_PREFIXES)
    opened = open_safetensors(folder, [ADAPTER_WEIGHTS], config, expected, skipped)
    differ = [
        name
        for name in expected
        if opened.read(name).tobytes() != opened.read(encoders(name)).tobytes()
    ]
    raise_faults(folder, {"factors that differ between decoder and encoder": differ})
    weights, recorded = weights_of_stored(opened), metadata.get(FINGERPRINT, "")
    return Adapter(weights, options["r"], options["lora_alpha"], base, recorded)


def write_peft(folder: Path, adapter: Adapter, final: Path) -> None:
    """Writes LoRA factors into an empty folder, in float32.

    Args:
      folder: the folder.
      adapter: the factors.
      final: where the folder will be. The path of the base is written relative to it.
    """
    table = factor_tensors(adapter.weights.config, PEFT, adapter.rank)
    written = {name: t for name, t in table.items() if set(t.params) <= set(adapter.weights.dtypes)}
    modules = {name.rpartition(".")[0] for name in written}
    tensors = _stored_tensors(table, modules)
    dtypes = dict.fromkeys(tensors, np.dtype(np.float32))
    metadata = {CANVAS: str(adapter.weights.config.canvas_size)}
    if adapter.fingerprint:
        metadata[FINGERPRINT] = adapter.fingerprint
    write_safetensors(folder / ADAPTER_WEIGHTS, tensors, dtypes, adapter.weights, metadata)
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
    (folder / ADAPTER_CONFIG).write_text(json_text(config))


def _options(folder: Path) -> dict[str, Any]:
    """The fields READ of the config. CheckpointError names every field that is not supported."""
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


def _is_targeted(options: dict[str, Any], module: str) -> bool:
    if EXPERTS in module:
        return _matches(options["target_parameters"], module)
    excluded = _matches(options["exclude_modules"], module)
    return _matches(options["target_modules"], module) and not excluded


def _matches(targets: str | list[str] | None, module: str) -> bool:
    """Whether PEFT's targets name a module: by a regular expression, or by the ends of names."""
    if isinstance(targets, str):
        return bool(re.fullmatch(targets, module))
    return any(f".{module}".endswith("." + target) for target in targets or ())


def _stored_tensors(table: dict[str, FileTensor], modules: set[str]) -> dict[str, FileTensor]:
    """Name in the file -> tensor, for the modules that have factors.

    The two stacks of experts are parameters of one module. If both have factors, PEFT wraps that
    module twice, and the factors of gate_up_proj are in the inner wrapper, "base_layer".
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


FORMAT = Format(
    name="peft",
    description="adapter_config.json and adapter_model.safetensors: LoRA factors alone",
    recognises=is_peft,
    factors=peft_factors,
    write_factors=write_peft,
)
