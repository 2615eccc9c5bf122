"""The network's parameters: their paths and their axes, in one table.

Every parameter has a path in the model, for example "layers.3.attention.q.kernel", and axes. The
axes are written as in einops: names separated by spaces. A group in brackets is one axis of the
array, and the last name of the group varies fastest. The names are:

    V vocabulary   D width   F dense hidden   E experts   f expert hidden
    H query heads   K KV heads   h head dim   (K and h depend on the layer's type)
    2 gate, then up   1 a single number   r rank of LoRA factors
    W width of the vision tower   P numbers in a patch   S places in the tables of positions

In the tower, H, K, h and F are its own sizes, and 2 is x, then y.

sharding.py reads here which axis of a parameter a mesh axis splits, and the tables of the
checkpoint formats (formats/tensor_tables.py) read here in which layout a parameter is kept.
"""

import re

# The paths of the vision tower's parameters begin with this name.
VISION = "vision"
# The bounds of a linear map that clips.
BOUNDS = ("input_min", "input_max", "output_min", "output_max")
STANDARDIZE = "vision.standardize."
_VISION_MAPS = {
    "attention.q": "W (H h)",
    "attention.k": "W (K h)",
    "attention.v": "W (K h)",
    "attention.o": "(H h) W",
    "mlp.gate": "W F",
    "mlp.up": "W F",
    "mlp.down": "F W",
}
_VISION_NORMS = {
    "pre_attention_norm": "W",
    "attention.q_norm": "h",
    "attention.k_norm": "h",
    "post_attention_norm": "W",
    "pre_mlp_norm": "W",
    "post_mlp_norm": "W",
}

# Path of a parameter -> its axes. "N" stands for the number of a layer.
OURS = {
    "embedder.embedding": "V D",
    "layers.N.pre_attention_norm.scale": "D",
    "layers.N.attention.q.kernel": "D (H h)",
    "layers.N.attention.k.kernel": "D (K h)",
    "layers.N.attention.v.kernel": "D (K h)",
    "layers.N.attention.o.kernel": "(H h) D",
    "layers.N.attention.q_norm.scale": "h",
    "layers.N.attention.k_norm.scale": "h",
    "layers.N.post_attention_norm.scale": "D",
    "layers.N.pre_mlp_norm.scale": "D",
    "layers.N.mlp.gate.kernel": "D F",
    "layers.N.mlp.up.kernel": "D F",
    "layers.N.mlp.down.kernel": "F D",
    "layers.N.post_mlp_norm.scale": "D",
    "layers.N.pre_moe_norm.scale": "D",
    "layers.N.moe.router.scale": "D",
    "layers.N.moe.router.proj.kernel": "D E",
    "layers.N.moe.router.per_expert_scale": "E",
    "layers.N.moe.gate_up.kernel": "E D (2 f)",
    "layers.N.moe.down.kernel": "E f D",
    "layers.N.post_moe_norm.scale": "D",
    "layers.N.post_ffw_norm.scale": "D",
    "layers.N.encode_scalar": "1",
    "layers.N.denoise_scalar": "1",
    "self_conditioner.pre_norm.scale": "D",
    "self_conditioner.mlp.gate.kernel": "D F",
    "self_conditioner.mlp.up.kernel": "D F",
    "self_conditioner.mlp.down.kernel": "F D",
    "final_norm.scale": "D",
    "vision.patch_projection.kernel": "P W",
    "vision.position_table": "2 S W",
    **{f"vision.layers.N.{name}.kernel": axes for name, axes in _VISION_MAPS.items()},
    **{f"vision.layers.N.{name}.{end}": "" for name in _VISION_MAPS for end in BOUNDS},
    **{f"vision.layers.N.{name}.scale": axes for name, axes in _VISION_NORMS.items()},
    "vision.standardize.bias": "W",
    "vision.standardize.scale": "W",
    "vision.projection.kernel": "W D",
}


def split_axes(axes: str) -> list[str]:
    """The axes of an array, one string each: "(H h) D" -> ["(H h)", "D"]."""
    return re.findall(r"\([^)]*\)|\S+", axes)


def axis_groups(axes: str) -> list[list[str]]:
    """The names in each axis of an array: "(H h) D" -> [["H", "h"], ["D"]]."""
    return [axis.strip("()").split() for axis in split_axes(axes)]


def in_tower(path: str) -> bool:
    """Whether a parameter or a linear map of this path belongs to the vision tower."""
    return path.startswith(f"{VISION}.")
