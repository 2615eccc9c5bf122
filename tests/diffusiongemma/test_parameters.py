"""The table of parameters is the network's own: every path, with the axes that the table says."""

import dataclasses
import math

from flax import nnx

from diffusiongemma.config import ModelConfig
from diffusiongemma.parameters import OURS, VISION, axis_groups, split_axes
from diffusiongemma.transformer import DiffusionGemma
from tests.diffusiongemma.formats.folders import TOWER


def test_axes_are_split_and_grouped():
    assert split_axes("E D (2 f)") == ["E", "D", "(2 f)"]
    assert axis_groups("(H h) D") == [["H", "h"], ["D"]]
    assert axis_groups("1") == [["1"]]
    assert axis_groups("") == []


def test_every_parameter_is_in_the_table_with_its_axes():
    config = dataclasses.replace(ModelConfig.preset("tiny"), vision=TOWER)
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    sizes = {
        "V": config.vocab_size,
        "D": config.width,
        "F": config.mlp_dim,
        "E": config.num_experts,
        "f": config.expert_dim,
        "H": config.num_heads,
        "1": 1,
        "2": 2,
    }
    seen = set()
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        full = path[0] == "layers" and config.layer_types[path[1]] == "full"
        layer = {
            "K": config.full_num_kv_heads if full else config.num_kv_heads,
            "h": config.full_head_dim if full else config.head_dim,
        }
        if path[0] == VISION:
            layer = {"W": 6, "P": 3, "S": 7, "H": 3, "K": 1, "h": 4, "F": 5}
        name = ".".join("N" if isinstance(part, int) else part for part in path)
        groups = axis_groups(OURS[name])
        assert variable.shape == tuple(math.prod((sizes | layer)[n] for n in g) for g in groups)
        seen.add(name)
    assert seen == set(OURS)
