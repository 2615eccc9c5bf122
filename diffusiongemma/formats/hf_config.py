"""Translates between the config.json of transformers 5.23.0 and ModelConfig."""

from typing import Any

from diffusiongemma.config import LayerType, ModelConfig
from diffusiongemma.formats.hf_config_checks import check_known, number, refuse
from diffusiongemma.formats.hf_config_fields import (
    FLOATS,
    IMAGE_IDS,
    LAYER_TYPES,
    MAY_BE_ABSENT,
    TEXT_CONSTANTS,
    TEXT_FIELDS,
    TEXT_IGNORED,
    TEXT_SPECIAL,
    TOP_CONSTANTS,
    TOP_IGNORED,
    TOP_SPECIAL,
    WRITTEN_CONSTANTS,
)
from diffusiongemma.formats.hf_vision_config import NO_VISION, vision_from_hf, vision_to_hf
from files.fields import shown


def config_from_hf(config: dict[str, Any], tower: bool | None = None) -> ModelConfig:
    """The model that a config.json describes.

    The sizes of full layers are read from global_head_dim and num_global_key_value_heads, as in the
    release, or from per_layer_config, as transformers 5.23.0 writes it.

    Args:
      config: the content of the config.json.
      tower: whether the weights have a vision tower. If they have none, the vision part is ignored.
        None: if the vision part describes one.

    Raises:
      ValueError: fields are missing, unknown or not supported. It names them all.
    """
    problems: list[str] = []
    text = config.get("text_config")
    (wanted,), kind = TOP_CONSTANTS["model_type"], config.get("model_type")
    if kind not in (wanted, None):
        raise ValueError(f"model_type: {kind!r} is another model, and only {wanted!r} is read")
    if not isinstance(text, dict):
        raise ValueError(f"text_config: missing, so this is no config.json of {wanted!r}")
    check_known(config, "", TOP_SPECIAL, TOP_CONSTANTS, TOP_IGNORED, problems)
    check_known(
        text,
        "text_config.",
        TEXT_SPECIAL | set(TEXT_FIELDS),
        TEXT_CONSTANTS,
        TEXT_IGNORED,
        problems,
    )
    fields: dict[str, Any] = {}
    for name, ours in TEXT_FIELDS.items():
        if name in text or name not in MAY_BE_ABSENT:
            fields[ours] = number(text.get(name), f"text_config.{name}", name in FLOATS, problems)
    fields["canvas_size"] = number(config.get("canvas_length"), "canvas_length", False, problems)
    fields["layer_types"] = _layer_types(text, problems)
    refuse(problems)
    fields |= _full_attention(text, fields, problems)
    fields |= _rope(text, problems)
    fields |= _stop_ids(config, text, fields["vocab_size"], problems)
    if tower or (tower is None and config.get("vision_config") not in (None, NO_VISION)):
        fields["vision"] = vision_from_hf(config, problems)
    refuse(problems)
    return ModelConfig(**fields)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The config.json with which transformers 5.23.0 loads an exported model.

    transformers needs a vision tower. If the model has none, the config describes one without
    layers, and the export lacks its few tensors: transformers makes them at random and says so.

    Raises:
      ValueError: the last layer is not a full one, which transformers does not support.
    """
    if config.layer_types[-1] != "full":
        raise ValueError("the last layer must be a full attention layer in the released layout")
    names = {ours: theirs for theirs, ours in LAYER_TYPES.items()}
    text = {theirs: getattr(config, ours) for theirs, ours in TEXT_FIELDS.items()}
    text |= {
        name: values[0] for name, values in TEXT_CONSTANTS.items() if name in WRITTEN_CONSTANTS
    }
    text |= {
        "num_hidden_layers": config.num_layers,
        "layer_types": [names[t] for t in config.layer_types],
        "global_head_dim": config.full_head_dim,
        "num_global_key_value_heads": config.full_num_kv_heads,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": config.rope_theta},
            "full_attention": {
                "rope_type": "proportional",
                "rope_theta": config.full_rope_theta,
                "partial_rotary_factor": config.full_rope_fraction,
            },
        },
        "eos_token_id": config.eos_id,
    }
    vision, ids = config.vision, {}
    if vision is not None:
        ids = {name: getattr(vision, ours) for name, (ours, _) in IMAGE_IDS.items()}
        if not vision.bidirectional:
            text["use_bidirectional_attention"] = None
    return {
        "architectures": ["DiffusionGemmaForBlockDiffusion"],
        "model_type": "diffusion_gemma",
        "canvas_length": config.canvas_size,
        "eos_token_id": list(config.stop_ids),
        "tie_word_embeddings": True,
        "text_config": dict(sorted(text.items())),
        **ids,
        "vision_config": dict(NO_VISION) if vision is None else vision_to_hf(vision),
    }


def _is_table(value: Any) -> bool:
    """Whether a value is a JSON object of objects."""
    return isinstance(value, dict) and all(isinstance(v, dict) for v in value.values())


def _layer_types(text: dict[str, Any], problems: list[str]) -> tuple[LayerType, ...]:
    count = number(text.get("num_hidden_layers"), "text_config.num_hidden_layers", False, problems)
    given = text.get("layer_types")
    if not isinstance(given, list):
        problems.append(f"text_config.layer_types: expected a list, got {shown(given)}")
        return ()
    unknown = sorted({str(t) for t in given} - set(LAYER_TYPES))
    if unknown:
        problems.append(f"text_config.layer_types: unknown {', '.join(unknown)}")
        return ()
    if len(given) != count:
        problems.append(f"text_config.layer_types: {len(given)} entries for {count} layers")
    elif given[-1:] != ["full_attention"]:
        problems.append("text_config.layer_types: the last layer must be full_attention")
    return tuple(LAYER_TYPES[t] for t in given)


def _full_attention(
    text: dict[str, Any], fields: dict[str, Any], problems: list[str]
) -> dict[str, int]:
    """Head dim and KV heads of full layers, from either place. Both places must agree."""
    found: set[tuple[int, int]] = set()
    before = len(problems)

    def add(kv_heads: Any, head_dim: Any) -> None:
        kv_heads = number(kv_heads, "text_config: KV heads of full layers", False, problems)
        head_dim = number(head_dim, "text_config: head dim of full layers", False, problems)
        if len(problems) == before:
            found.add((kv_heads, head_dim))

    overrides = text.get("per_layer_config")
    if overrides is not None:
        if not _is_table(overrides) or not all(index.isdecimal() for index in overrides):
            problems.append("text_config.per_layer_config: expected layer numbers and their fields")
            return {}
        full = {i for i, t in enumerate(fields["layer_types"]) if t == "full"}
        layers = {int(index): layer for index, layer in overrides.items()}
        default = {"head_dim": fields["head_dim"], "num_key_value_heads": fields["num_kv_heads"]}
        if not set(layers) <= full or any(set(layer) - set(default) for layer in layers.values()):
            problems.append("text_config.per_layer_config: only heads of full layers may differ")
            return {}
        for i in full:
            layer = default | layers.get(i, {})
            add(layer["num_key_value_heads"], layer["head_dim"])
    if overrides is None or "global_head_dim" in text:
        kv_heads = text.get("num_global_key_value_heads")
        kv_heads = fields["num_kv_heads"] if kv_heads is None else kv_heads
        add(kv_heads, text.get("global_head_dim", 512))  # transformers' default
    if len(problems) > before:
        return {}
    if len(found) != 1:
        problems.append(f"text_config: full layers differ in (KV heads, head dim): {sorted(found)}")
        return {}
    kv_heads, head_dim = found.pop()
    return {"full_num_kv_heads": kv_heads, "full_head_dim": head_dim}


def _rope(text: dict[str, Any], problems: list[str]) -> dict[str, float]:
    """The RoPE constants of both types of layers."""
    given = text.get("rope_parameters")
    types = {"sliding_attention": "default", "full_attention": "proportional"}
    if not _is_table(given) or set(given) != set(types):
        problems.append("text_config.rope_parameters: expected sliding_attention, full_attention")
        return {}
    found = {}
    for layer_type, rope_type in types.items():
        rope, prefix = dict(given[layer_type]), f"text_config.rope_parameters.{layer_type}."
        fraction = rope.pop("partial_rotary_factor", 1.0) if rope_type == "proportional" else 1.0
        found[layer_type] = (
            number(rope.pop("rope_theta", None), f"{prefix}rope_theta", True, problems),
            number(fraction, f"{prefix}partial_rotary_factor", True, problems),
        )
        check_known(rope, prefix, set(), {"rope_type": (rope_type,)}, set(), problems)
        if "rope_type" not in rope:
            problems.append(f"{prefix}rope_type: missing")
    return {
        "rope_theta": found["sliding_attention"][0],
        "full_rope_theta": found["full_attention"][0],
        "full_rope_fraction": found["full_attention"][1],
    }


def _stop_ids(
    config: dict[str, Any], text: dict[str, Any], vocab_size: int, problems: list[str]
) -> dict[str, Any]:
    """The end token and the tokens that end a generation.

    The end token is the first of text_config. Generation ends at the tokens of the outer list if
    there is one, else at those of text_config.
    """

    def ids(value: Any) -> tuple[int, ...]:
        given = value if isinstance(value, list) else [value]
        if not given or not all(type(v) is int and 0 <= v < vocab_size for v in given):
            problems.append(
                f"eos_token_id: expected token ids from 0 to {vocab_size - 1}, got {shown(value)}"
            )
            return (1,)
        return tuple(given)

    eos = ids(text.get("eos_token_id", 1))
    stop = config.get("eos_token_id")
    return {"eos_id": eos[0], "stop_ids": eos if stop is None else ids(stop)}
