"""Translates between the vision part of a config.json and VisionConfig."""

from typing import Any

from diffusiongemma.formats.hf_config_checks import check_known, number
from diffusiongemma.formats.hf_config_fields import (
    FLOATS,
    IMAGE_IDS,
    VISION_CONSTANTS,
    VISION_FIELDS,
    VISION_IGNORED,
)
from diffusiongemma.vision.config import VisionConfig
from files.fields import shown

# The config of a vision tower without layers: transformers needs one in every config. It is written
# for a model that has no tower.
NO_VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 4,
    "intermediate_size": 4,
    "num_hidden_layers": 0,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "patch_size": 2,
    "position_embedding_size": 2,
}
ROPE_TYPES = ("default", "axial")  # two names for the same: that of the release, and transformers'
THETA = 100.0  # what transformers takes if rope_theta is absent


def vision_from_hf(config: dict[str, Any], problems: list[str]) -> VisionConfig | None:
    """The vision tower that the content of a config.json describes.

    Args:
      config: the content.
      problems: gets what is unknown or not supported.

    Returns:
      the tower; None if there are problems.
    """
    given, before = config.get("vision_config"), len(problems)
    if not isinstance(given, dict):
        problems.append(f"vision_config: expected the fields of a tower, got {shown(given)}")
        return None
    read = {*VISION_FIELDS, "rope_parameters"}
    check_known(given, "vision_config.", read, VISION_CONSTANTS, VISION_IGNORED, problems)
    fields: dict[str, Any] = {}
    for name, (ours, default) in VISION_FIELDS.items():
        where, value = f"vision_config.{name}", given.get(name)
        value = default if value is None else value
        if isinstance(default, bool):
            if not isinstance(value, bool):
                problems.append(f"{where}: expected true or false, got {shown(value)}")
            fields[ours] = value
        else:
            zero = name == "num_hidden_layers"
            fields[ours] = number(value, where, name in FLOATS, problems, zero=zero)
    fields["rope_theta"] = _theta(given.get("rope_parameters"), problems)
    for name, (ours, default) in IMAGE_IDS.items():
        value = config.get(name)
        fields[ours] = number(default if value is None else value, name, False, problems)
    text = config["text_config"]
    fields["bidirectional"] = text.get("use_bidirectional_attention") == "vision"
    if len(problems) > before:
        return None
    try:
        return VisionConfig(**fields)
    except ValueError as error:
        problems.append(f"vision_config: {error}")
        return None


def vision_to_hf(vision: VisionConfig) -> dict[str, Any]:
    """The vision_config for a tower."""
    fields = {name: getattr(vision, ours) for name, (ours, _) in VISION_FIELDS.items()}
    fields |= {name: VISION_CONSTANTS[name][0] for name in ("model_type", "hidden_activation")}
    rope = {"rope_type": ROPE_TYPES[0], "rope_theta": vision.rope_theta}
    return dict(sorted(fields.items())) | {"rope_parameters": rope}


def _theta(given: Any, problems: list[str]) -> Any:
    """The base of the rotary embedding."""
    if given is None:
        return THETA
    if not isinstance(given, dict):
        problems.append(f"vision_config.rope_parameters: expected fields, got {shown(given)}")
        return THETA
    prefix = "vision_config.rope_parameters."
    check_known(given, prefix, {"rope_theta"}, {"rope_type": ROPE_TYPES}, set(), problems)
    return number(given.get("rope_theta", THETA), f"{prefix}rope_theta", True, problems)
