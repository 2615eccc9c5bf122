"""The sampler's defaults in a checkpoint's folder: read and written.

They lie in generation_config.json. transformers refuses a file with fields that it does not know,
so what it does not have lies in a file of our own, sampler.json.
"""

import json
from pathlib import Path
from typing import Any

from diffusiongemma.formats.checks import warn
from diffusiongemma.formats.config_file import read_json
from files.fields import is_finite, shown
from files.inside import check_inside
from files.whole_file import write_file
from sample.step import SamplerConfig

FILE, OURS = "generation_config.json", "sampler.json"

# Name in the file -> our name and type. A field that is absent or null leaves our default, which is
# the published one.
NUMBERS = {
    "max_denoising_steps": ("max_steps", int),
    "confidence_threshold": ("stop_threshold", float),
    "t_min": ("min_temperature", float),
    "t_max": ("max_temperature", float),
    "max_new_tokens": ("max_new_tokens", int),
    "restart_every": ("restart_every", int),
}
NOT_OF_TRANSFORMERS = {"restart_every"}

# The file's name for this sampler, the only one that is supported.
SAMPLER = "EntropyBoundSamplerConfig"

# Fields for which this sampler supports one value.
CONSTANTS = {
    "stability_threshold": 1,  # steps for which the argmax canvas must not have changed
}

# The other fields of transformers 5.23.0's GenerationConfig. First those that change no answer:
# bookkeeping, caches and compilation, what is returned, and drafts of speculative decoding.
# Denoising always draws, so do_sample is one of them.
IGNORED = {
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "decoder_start_token_id",
    "disable_compile",
    "do_sample",
    "is_assistant",
    "low_memory",
    "max_cache_len",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "return_dict_in_generate",
    "speculation_type",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
    "use_mtp",
}
IGNORED_PREFIXES = ("_", "unsloth_")

# Then settings of other ways to decode -> the values with which they change nothing. transformers
# also writes its own defaults, and they count as unset: max_length 20 and top_k 50.
NEUTRAL: dict[str, tuple] = {
    "bad_words_ids": ([],),
    "begin_suppress_tokens": ([],),
    "constraints": ([],),
    "diversity_penalty": (0,),
    "dola_layers": (),
    "early_stopping": (False,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "length_penalty": (1,),
    "max_length": (20,),
    "max_time": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "min_p": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "remove_invalid_values": (False,),
    "renormalize_logits": (False,),
    "repetition_penalty": (1,),
    "sequence_bias": ([], {}),
    "stop_strings": ([],),
    "suppress_tokens": ([],),
    "temperature": (1,),
    "token_healing": (False,),
    "top_h": (1,),
    "top_k": (0, 50),
    "top_p": (1,),
    "typical_p": (1,),
    "watermarking_config": (),
}


def sampler_defaults(folder: str | Path) -> dict[str, Any]:
    """The fields of SamplerConfig that a folder's generation_config.json and sampler.json set.

    `SamplerConfig(**(sampler_defaults(folder) | flags))` lets flags win over the folder. Both files
    may have the same fields, and sampler.json wins. Settings of other ways to decode are named on
    stderr, once, unless they change nothing.

    Returns:
      field name -> value, all within range; empty if there is no such file.

    Raises:
      ValueError: a file is no JSON object, is a link that leads out of the folder, or has fields
        that are unknown, not supported or out of range. The message names all of them on one line.
    """
    return _settings(Path(folder) / FILE) | _settings(Path(folder) / OURS)


def _settings(file: Path) -> dict[str, Any]:
    """The fields of SamplerConfig that a file sets."""
    if not file.is_file():
        return {}
    check_inside(file.parent, file)
    given = read_json(file)
    problems: list[str] = []
    fields, unused = {}, []
    for name, value in given.items():
        if value is None or name in IGNORED or name.startswith(IGNORED_PREFIXES):
            continue
        if name in NUMBERS:
            ours, kind = NUMBERS[name]
            fields[ours] = _number(name, value, kind, problems)
        elif name in CONSTANTS:
            if value != CONSTANTS[name]:
                problems.append(f"{name}: {value!r} is not supported, only {CONSTANTS[name]!r}")
        elif name == "eos_token_id":
            ids = value if isinstance(value, list) else [value]
            fields["stop_ids"] = tuple(_number(name, i, int, problems) for i in ids)
        elif name == "sampler_config":
            fields |= _entropy_bound(value, problems)
        elif name in NEUTRAL:
            unused += [] if value in NEUTRAL[name] else [f"{name} {value}"]
        else:
            problems.append(f"{name}: unknown field")
    if not problems:
        try:
            SamplerConfig(**fields)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(f"{file}: {'; '.join(problems)}")
    if unused:
        warn(f"{file}: these fields do not change how this sampler answers: {', '.join(unused)}")
    return fields


def save_sampler_defaults(config: SamplerConfig, folder: str | Path) -> None:
    """Writes settings into a folder's files, if they differ from the published.

    Other fields of the files stay. A field that transformers does not have goes to sampler.json, if
    an older version of this project has put it into the other file. Not written are max_new_tokens,
    and settings for which the files have no field.

    Raises:
      ValueError: the folder has such a file, and it is no JSON object.
      OSError: a file cannot be written. Then it is as before.
    """
    published = SamplerConfig()
    changed = {
        theirs: getattr(config, ours)
        for theirs, (ours, _) in NUMBERS.items()
        if ours != "max_new_tokens" and getattr(config, ours) != getattr(published, ours)
    }
    if config.entropy_bound != published.entropy_bound:
        changed["sampler_config"] = {"_cls_name": SAMPLER, "entropy_bound": config.entropy_bound}
    given = [read_json(file) if file.is_file() else {} for file in _files(folder)]
    fields = given[0] | given[1] | changed
    ours = {name for name in fields if name in given[1] or name in NOT_OF_TRANSFORMERS}
    wanted = [
        {name: value for name, value in fields.items() if (name in ours) == (file.name == OURS)}
        for file in _files(folder)
    ]
    for file, before, after in zip(_files(folder), given, wanted, strict=True):
        if after != before:
            write_file(file, (json.dumps(after, indent=2) + "\n").encode())


def _files(folder: str | Path) -> list[Path]:
    return [Path(folder) / name for name in (FILE, OURS)]


def _number(name: str, value: Any, kind: type, problems: list[str]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        problems.append(f"{name}: expected {kind.__name__}, got {shown(value)}")
        return None
    if kind is float and not is_finite(value):
        problems.append(f"{name}: expected a finite number, got {shown(value)}")
        return None
    return kind(value)


def _entropy_bound(given: Any, problems: list[str]) -> dict[str, float]:
    """The field entropy_bound in {"_cls_name": SAMPLER, "entropy_bound": a number}."""
    if not isinstance(given, dict) or set(given) - {"_cls_name", "entropy_bound"}:
        problems.append(f"sampler_config: expected _cls_name and entropy_bound, got {given!r}")
        return {}
    name = given.get("_cls_name", SAMPLER)
    if name != SAMPLER:
        problems.append(f"sampler_config: {name!r} is not supported")
    bound = given.get("entropy_bound")
    if bound is None:
        return {}
    name = "sampler_config.entropy_bound"
    return {"entropy_bound": _number(name, bound, float, problems)}
