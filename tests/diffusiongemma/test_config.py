"""Configurations: the named sizes, and what is refused."""

import pytest

from diffusiongemma import ModelConfig
from diffusiongemma.config import PRESETS, five_to_one


def test_bad_configs_are_refused():
    for fields, message in [
        ({"layer_types": ("sliding", "local")}, "layer_types"),
        ({"num_heads": 3}, "cannot share"),
        ({"head_dim": 7}, "even"),
        ({"top_k": 5}, "top_k"),
        ({"window": 1}, "window"),
    ]:
        with pytest.raises(ValueError, match=message):
            ModelConfig.preset("tiny", **fields)
    with pytest.raises(ValueError, match="no model preset 'big'"):
        ModelConfig.preset("big")


def test_every_preset_has_five_sliding_layers_for_a_full_one():
    for name in PRESETS:
        config = ModelConfig.preset(name)
        assert config.layer_types == five_to_one(config.num_layers)
        assert config.layer_types[-1] == "full"
        assert config.layer_types.count("sliding") == 5 * config.layer_types.count("full")
    with pytest.raises(ValueError, match="multiple of 6 layers, not 7"):
        five_to_one(7)
