"""The "peft" format: LoRA factors alone, as PEFT 0.21.2 saves them for transformers 5.23.0.

A folder has adapter_config.json and adapter_model.safetensors. PEFT puts factors beside each module
that the config targets, in the encoder and in the decoder, although the two share their weights.
Factors that are equal in both are one pair here, and both modes use it. Others are kept apart:
encode uses the encoder's, and denoise the decoder's. (PEFT's own merge_and_unload adds the factors
of both to the shared weights. Merge equal ones with scripts.convert.) The metadata of the
safetensors file holds what PEFT has no place for: the fingerprint of the base, and the canvas size
of the training.
"""

import dataclasses
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from diffusiongemma.formats.adapter import Adapter, check_base
from diffusiongemma.formats.checks import CheckpointError, warn
from diffusiongemma.formats.config_file import json_text, read_json
from diffusiongemma.formats.foreign import refuse_pickles
from diffusiongemma.formats.format import Format, StoredFactors, is_hub_name
from diffusiongemma.formats.lora_tables import PEFT, factor_tensors, pair_paths
from diffusiongemma.formats.safetensors_file import (
    TensorHeader,
    new_tensor,
    open_safetensors,
    read_headers,
    safetensors_in,
    write_safetensors,
)
from diffusiongemma.formats.tensor_tables import FileTensor
from diffusiongemma.formats.vision_tables import HF_PREFIXES
from diffusiongemma.formats.weights import Stored, weights_of_stored
from files.fields import typed
from files.foreign_pattern import matching

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FINGERPRINT, CANVAS = "base_fingerprint", "canvas_size"  # keys in the metadata
ADAPTER_NAME = ".default.weight"  # FSDP and DeepSpeed keep PEFT's name of the adapter
NOT_SUPPORTED = re.compile(r"\b(embed_tokens|lm_head)\.")
LAYER = re.compile(r"\.layers\.(\d+)\.")
EXPERTS = ".experts."  # the stacks of experts are parameters of one module

# Fields of the config that must have one of these values: plain LoRA, which is all that is here.
CONSTANTS: dict[str, tuple] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),  # others change the base
    "layers_pattern": (None, [], "", "layers", ["layers"]),
}
# What to do about a field that is not supported.
ADVICE = {
    "alpha_pattern": "multiply lora_B of those modules by their alpha / lora_alpha, and set "
    "alpha_pattern to {}",
    "init_lora_weights": "let PEFT save it with path_initial_model_for_weight_conversion",
}
TRAIN_AGAIN = "train again with plain LoRA of one rank"
# Fields of the config that are read.
READ = {
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "target_parameters",
    "layers_to_transform",
    "use_rslora",
}
# Fields that say nothing about the factors. All other fields must be off: null, false or empty.
IGNORED = {
    "auto_mapping",
    "ensure_weight_tying",
    "eva_config",
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
    """Whether a folder is an adapter that PEFT saved, also if it has lost its config."""
    return (folder / ADAPTER_CONFIG).is_file() or safetensors_in(folder) == [ADAPTER_WEIGHTS]


def peft_factors(folder: Path) -> StoredFactors:
    """The LoRA factors of an adapter. A relative path of its base starts at the adapter's folder.

    Raises:
      CheckpointError: options of PEFT that are not supported. It names them all. Or one of the two
        files is not there.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            f"{folder}: has {ADAPTER_WEIGHTS} but no {ADAPTER_CONFIG}, which says how the factors "
            "are used: copy it from where the adapter was saved"
        )
    if not (folder / ADAPTER_WEIGHTS).exists():
        refuse_pickles(folder)
    options = _options(folder)
    name = options["base_model_name_or_path"]
    base = folder / name if name else None
    if base and not base.is_dir() and is_hub_name(Path(name)):
        base = Path(name)
    return StoredFactors(base, lambda base, stored: _open_factors(folder, options, base, stored))


def _open_factors(folder: Path, options: dict[str, Any], base: Path, stored: Stored) -> Adapter:
    """Opens the factors of an adapter: reads and checks their headers.

    Args:
      folder: the adapter.
      options: what _options gives.
      base: folder of the base.
      stored: the opened base.

    Raises:
      CheckpointError: the factors were trained on another base, or do not fit the base.
    """
    headers = read_headers(folder, [ADAPTER_WEIGHTS])
    metadata = headers.metadata
    check_base(folder, metadata.get(FINGERPRINT, ""), base, stored)
    config = stored.config
    if metadata.get(CANVAS, "").isdecimal():
        try:
            config = dataclasses.replace(config, canvas_size=int(metadata[CANVAS]))
        except ValueError as error:
            raise CheckpointError(f"{folder / ADAPTER_WEIGHTS}: metadata: {error}") from None
    table = factor_tensors(config, PEFT, options["r"])
    modules = {name.rpartition(".")[0] for name in table}
    vision = tuple(PREFIX + prefix for prefix in HF_PREFIXES)
    of_tower = [header for header in headers.tensors if header.name.startswith(vision)]
    found = headers.tensors
    if of_tower and config.vision is None:
        found = [header for header in found if header not in of_tower]
        warn(
            f"{folder}: {len(of_tower)} tensors belong to the vision tower and are left out, "
            f"because {base} has none"
        )
    if not of_tower:  # the tower's maps may be targeted by accident: their names end like others
        modules = {module for module in modules if not module.startswith(HF_PREFIXES)}
    targeted = _targeted(folder, options, modules)
    if not targeted:
        raise CheckpointError(
            f"{folder}: its target_modules and target_parameters name no linear map of the model"
        )
    expected = _stored_tensors(table, targeted)
    found = [h._replace(name=h.name.replace(ADAPTER_NAME, ".weight")) for h in found]
    _check_fit(folder, base, found, expected)
    opened = open_safetensors(folder, headers._replace(tensors=found), config, expected)
    weights, recorded = weights_of_stored(_shared(opened)), metadata.get(FINGERPRINT, "")
    return Adapter(weights, options["r"], options["lora_alpha"], base, recorded)


def write_peft(folder: Path, adapter: Adapter, final: Path) -> None:
    """Writes LoRA factors into an empty folder, in float32.

    Args:
      folder: the folder.
      adapter: the factors.
      final: where the folder will be. The path of the base is written relative to it.
    """
    written = {}
    for name, tensor in factor_tensors(adapter.weights.config, PEFT, adapter.rank).items():
        ((path, axes),) = tensor.params.items()
        own = path if path in adapter.weights.dtypes else _of_both(path)
        if own in adapter.weights.dtypes:
            written[name] = dataclasses.replace(tensor, params={own: axes})
    modules = {name.rpartition(".")[0] for name in written}
    tensors = _stored_tensors(written, modules)
    made = {n: new_tensor(t, np.dtype(np.float32), adapter.weights) for n, t in tensors.items()}
    metadata = {CANVAS: str(adapter.weights.config.canvas_size)}
    if adapter.fingerprint:
        metadata[FINGERPRINT] = adapter.fingerprint
    write_safetensors(folder / ADAPTER_WEIGHTS, made, metadata)
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


def _check_fit(
    folder: Path, base: Path, found: list[TensorHeader], expected: dict[str, FileTensor]
) -> None:
    """Refuses, in one line, factors of embeddings, and those of a model other than the base."""
    if modules := sorted({m[1] for h in found if (m := NOT_SUPPORTED.search(h.name))}):
        raise CheckpointError(
            f"{folder}: has tensors of {' and '.join(modules)}, and factors of embeddings are not "
            "supported: train again without them in target_modules"
        )
    known = [h for h in found if h.name in expected]
    wrong = [h for h in known if h.shape != expected[h.name].shape]
    if wrong and len(wrong) * 2 >= len(known):
        name, shape = wrong[0].name, list(wrong[0].shape)
        raise CheckpointError(
            f"{folder}: the shapes of its factors do not fit the base {base} and the rank in "
            f"{ADAPTER_CONFIG} ({name} is {shape}, not {list(expected[name].shape)}, for example): "
            "name the base that they were trained on (--base)"
        )


def _shared(opened: Stored) -> Stored:
    """Makes one pair, for both modes, of the factors that are equal in decoder and encoder."""
    names = {path: name for name, tensor in opened.tensors.items() for path in tensor.params}
    tensors = dict(opened.tensors)

    def equal(one: str | None, other: str | None) -> bool:
        return bool(one and other) and opened.read(one).tobytes() == opened.read(other).tobytes()

    for map_path in {path.rpartition(".")[0] for path in names}:
        paths = (pair_paths(map_path, mode) for mode in ("denoise", "encode"))
        pairs = [tuple(map(names.get, both)) for both in zip(*paths, strict=True)]
        if all(equal(*pair) for pair in pairs):
            for decoders, encoders in pairs:
                del tensors[encoders]
                tensor = tensors[decoders]
                params = {_of_both(path): axes for path, axes in tensor.params.items()}
                tensors[decoders] = dataclasses.replace(tensor, params=params)
    return dataclasses.replace(opened, tensors=tensors)


def _of_both(path: str) -> str:
    """The path that a factor of one mode has if it is the factor of both."""
    map_path, _, name = path.rpartition(".")
    return f"{map_path}.{name.removeprefix('encode_').removeprefix('denoise_')}"


def _options(folder: Path) -> dict[str, Any]:
    """The fields READ of the config, where lora_alpha is what it would be without use_rslora.

    CheckpointError names every field that is not supported.
    """
    file = folder / ADAPTER_CONFIG
    given = read_json(file)
    if "peft_type" not in given:
        raise CheckpointError(
            f"{file}: has no peft_type, so PEFT did not save this adapter; adapters of other tools "
            "(MLX, for example) are not read"
        )
    if given["peft_type"] != "LORA":
        raise CheckpointError(f"{file}: peft_type: {given['peft_type']!r}: only 'LORA' is read")
    problems = []
    for name, value in given.items():
        known = name in READ or name in IGNORED or name == "peft_type"
        fits = value in CONSTANTS[name] if name in CONSTANTS else known or not value
        if not fits:
            advice = ADVICE.get(name, TRAIN_AGAIN)
            problems.append(f"{name}: {value!r} is not supported: {advice}")
    options = {name: given.get(name) for name in READ}
    for name, kind, least in (("r", int, 1), ("lora_alpha", float, 0)):
        try:
            if typed(kind, options[name], name) < least:
                problems.append(f"{name}: expected at least {least}, got {options[name]}")
        except ValueError as error:
            problems.append(str(error))
    if not isinstance(options["base_model_name_or_path"], str | None):
        problems.append("base_model_name_or_path: expected a path")
    layers = options["layers_to_transform"]
    options["layers_to_transform"] = layers if isinstance(layers, list | None) else [layers]
    if not all(isinstance(layer, int) for layer in options["layers_to_transform"] or ()):
        problems.append("layers_to_transform: expected numbers of layers")
    for name in ("target_modules", "exclude_modules", "target_parameters"):
        try:
            _matching(options[name], {""})
        except TypeError:
            problems.append(f"{name}: expected names, or a regular expression")
        except ValueError as error:
            problems.append(f"{name}: expected names, or a regular expression: {error}")
    if problems:
        raise CheckpointError(f"{file}: {'; '.join(problems)}")
    if options["use_rslora"]:  # alpha / sqrt(r) in place of alpha / r (arXiv 2312.03732)
        options["lora_alpha"] *= math.sqrt(options["r"])
    return options


def _targeted(folder: Path, options: dict[str, Any], modules: set[str]) -> set[str]:
    """The modules that have factors. CheckpointError if a pattern takes too much time or memory."""
    experts = {module for module in modules if EXPERTS in module}
    targets, layers = options["target_modules"], options["layers_to_transform"]

    def named_in(field: str, among: set[str]) -> set[str]:
        try:
            return _matching(options[field], among)
        except ValueError as error:
            raise CheckpointError(f"{folder / ADAPTER_CONFIG}: {field}: {error}") from None

    def transformed(module: str) -> bool:
        if not layers or module in (targets or ()):  # PEFT: a whole name is targeted in any case
            return True
        number = LAYER.search(module)
        return number is not None and int(number[1]) in layers

    maps = set(filter(transformed, modules - experts))
    chosen = named_in("target_modules", maps) - named_in("exclude_modules", maps)
    return chosen | named_in("target_parameters", experts)


def _matching(targets: str | list[str] | None, modules: set[str]) -> set[str]:
    """The modules that PEFT's targets name: by a regular expression, or by the ends of names.

    ValueError: it is no regular expression, or it takes too much time or memory.
    """
    if isinstance(targets, str):
        return set(matching(targets, modules, whole=True))
    ends = tuple("." + target for target in targets or ())
    return {module for module in modules if f".{module}".endswith(ends)}


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
