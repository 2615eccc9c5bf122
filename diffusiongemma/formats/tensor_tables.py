"""Tensor names and shapes of the released formats, as tables, both ways and bit-exact.

A tensor's axes are written as in einops: space-separated names, a group in brackets is one axis
of the array, its last name varying fastest. The names:

    V vocabulary   D width   F dense hidden   E experts   f expert hidden
    H query heads   K KV heads   h head dim   (K and h by the layer's type)
    2 gate, then up   1 a lone scalar   r rank of LoRA factors   part: see Row

OURS gives the axes of our parameters, and each format a list of rows that say which of its tensors
holds which of our parameters, in which order of axes. "N" in a name is the layer's number. The
config.json of the transformers format is read and written by hf_config.py; the tables of LoRA
factors are in lora_tables.py.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from diffusiongemma.config import LayerType, ModelConfig


class Row(NamedTuple):
    """One tensor of a released format.

    Attributes:
      name: its name there.
      axes: its axes there. With a leading "part" axis it stacks the parameters, in their order.
      params: ours. Several without a "part" axis are copies of it, and must be equal to be saved.
      only: the type of the layers that have it; None: all.
    """

    name: str
    axes: str
    params: tuple[str, ...]
    only: LayerType | None = None


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
}


def _hf_layer(name: str, axes: str, param: str, only: LayerType | None = None) -> Row:
    return Row(f"model.decoder.layers.N.{name}", axes, (f"layers.N.{param}",), only)


def _google_layer(name: str, axes: str, *params: str, only: LayerType | None = None) -> Row:
    return Row(f"layer_N/{name}", axes, tuple(f"layers.N.{p}" for p in params), only)


# transformers, and so the released safetensors: linear maps are [out, in]. The encoder shares all
# of the decoder's tensors but the layer scalars, and shared ones are stored once.
HF = (
    Row("model.decoder.embed_tokens.weight", "V D", ("embedder.embedding",)),
    _hf_layer("input_layernorm.weight", "D", "pre_attention_norm.scale"),
    _hf_layer("self_attn.q_proj.weight", "(H h) D", "attention.q.kernel"),
    _hf_layer("self_attn.k_proj.weight", "(K h) D", "attention.k.kernel"),
    _hf_layer("self_attn.v_proj.weight", "(K h) D", "attention.v.kernel", only="sliding"),
    _hf_layer("self_attn.o_proj.weight", "D (H h)", "attention.o.kernel"),
    _hf_layer("self_attn.q_norm.weight", "h", "attention.q_norm.scale"),
    _hf_layer("self_attn.k_norm.weight", "h", "attention.k_norm.scale"),
    _hf_layer("post_attention_layernorm.weight", "D", "post_attention_norm.scale"),
    _hf_layer("pre_feedforward_layernorm.weight", "D", "pre_mlp_norm.scale"),
    _hf_layer("mlp.gate_proj.weight", "F D", "mlp.gate.kernel"),
    _hf_layer("mlp.up_proj.weight", "F D", "mlp.up.kernel"),
    _hf_layer("mlp.down_proj.weight", "D F", "mlp.down.kernel"),
    _hf_layer("post_feedforward_layernorm_1.weight", "D", "post_mlp_norm.scale"),
    _hf_layer("pre_feedforward_layernorm_2.weight", "D", "pre_moe_norm.scale"),
    _hf_layer("router.scale", "D", "moe.router.scale"),
    _hf_layer("router.proj.weight", "E D", "moe.router.proj.kernel"),
    _hf_layer("router.per_expert_scale", "E", "moe.router.per_expert_scale"),
    _hf_layer("experts.gate_up_proj", "E (2 f) D", "moe.gate_up.kernel"),
    _hf_layer("experts.down_proj", "E D f", "moe.down.kernel"),
    _hf_layer("post_feedforward_layernorm_2.weight", "D", "post_moe_norm.scale"),
    _hf_layer("post_feedforward_layernorm.weight", "D", "post_ffw_norm.scale"),
    _hf_layer("layer_scalar", "1", "denoise_scalar"),
    Row("model.encoder.language_model.layers.N.layer_scalar", "1", ("layers.N.encode_scalar",)),
    Row(
        "model.decoder.self_conditioning.pre_norm.weight", "D", ("self_conditioner.pre_norm.scale",)
    ),
    *(
        Row(
            f"model.decoder.self_conditioning.{name}_proj.weight",
            axes,
            (f"self_conditioner.mlp.{name}.kernel",),
        )
        for name, axes in (("gate", "F D"), ("up", "F D"), ("down", "D F"))
    ),
    Row("model.decoder.norm.weight", "D", ("final_norm.scale",)),
)

# Not read: this project has the text model only.
HF_SKIPPED_PREFIXES = ("model.encoder.vision_tower.", "model.encoder.embed_vision.")
GOOGLE_SKIPPED_PREFIXES = ("vision_encoder/", "embedder/mm_")

# Google's own Linen tree. "mlp" is the mixture of experts there, "mlp2" the dense branch.
GOOGLE = (
    Row("embedder/input_embedding", "V D", ("embedder.embedding",)),
    _google_layer("pre_attention_norm/scale", "D", "pre_attention_norm.scale"),
    _google_layer("attn/q_einsum/w", "H D h", "attention.q.kernel"),
    _google_layer(
        "attn/kv_einsum/w",
        "part K D h",
        "attention.k.kernel",
        "attention.v.kernel",
        only="sliding",
    ),
    _google_layer("attn/k_einsum/w", "K D h", "attention.k.kernel", only="full"),
    _google_layer("attn/attn_vec_einsum/w", "H h D", "attention.o.kernel"),
    _google_layer("attn/query_norm/scale", "h", "attention.q_norm.scale"),
    _google_layer("attn/key_norm/scale", "h", "attention.k_norm.scale"),
    _google_layer("post_attention_norm/scale", "D", "post_attention_norm.scale"),
    _google_layer("pre_ffw2_norm/scale", "D", "pre_mlp_norm.scale"),
    _google_layer("mlp2/gating_einsum", "part F D", "mlp.gate.kernel", "mlp.up.kernel"),
    _google_layer("mlp2/linear", "F D", "mlp.down.kernel"),
    _google_layer("post_ffw2_norm/scale", "D", "post_mlp_norm.scale"),
    _google_layer("pre_ffw_norm/scale", "D", "pre_moe_norm.scale"),
    _google_layer("mlp/router_scale", "D", "moe.router.scale"),
    _google_layer("mlp/router_logits/w", "D E", "moe.router.proj.kernel"),
    _google_layer("mlp/per_expert_scale", "E", "moe.router.per_expert_scale"),
    _google_layer("mlp/gating_einsum/w", "E 2 f D", "moe.gate_up.kernel"),
    _google_layer("mlp/linear/w", "E f D", "moe.down.kernel"),
    _google_layer("post_ffw1_norm/scale", "D", "post_moe_norm.scale"),
    _google_layer("post_ffw_norm/scale", "D", "post_ffw_norm.scale"),
    _google_layer("skip_scale", "1", "encode_scalar", "denoise_scalar"),
    Row("self_conditioner/pre_norm/scale", "D", ("self_conditioner.pre_norm.scale",)),
    Row(
        "self_conditioner/ffw/gating_einsum",
        "part F D",
        ("self_conditioner.mlp.gate.kernel", "self_conditioner.mlp.up.kernel"),
    ),
    Row("self_conditioner/ffw/linear", "F D", ("self_conditioner.mlp.down.kernel",)),
    Row("final_norm/scale", "D", ("final_norm.scale",)),
)

# This project's own: one tensor for each parameter, as it is.
ORBAX = tuple(
    Row(name, axes, (name,), "sliding" if name == "layers.N.attention.v.kernel" else None)
    for name, axes in OURS.items()
)


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """One tensor of a released format for one model: a Row with its layer and sizes filled in.

    Attributes:
      name: its name in the file.
      axes: its axes there.
      params: our parameters in it, path -> axes.
      sizes: of the named axes.
      dtype: the only one it has; None: any float.
    """

    name: str
    axes: str
    params: Mapping[str, str]
    sizes: Mapping[str, int]
    dtype: np.dtype | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """In the file."""
        return _shape(self.axes, self.sizes)

    def param_shape(self, path: str) -> tuple[int, ...]:
        """Of one of our parameters in it."""
        return _shape(self.params[path], self.sizes)

    @property
    def corner(self) -> "FileTensor":
        """Its first few elements along every axis: in every format the same ones of a parameter."""
        # One alone of a name that others may follow in its axis, so that the corner is one slice.
        limit = {"part": self.sizes["part"], "H": 1, "K": 1, "2": 1}
        sizes = {name: min(size, limit.get(name, 4)) for name, size in self.sizes.items()}
        return dataclasses.replace(self, sizes=sizes)

    def to_params(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """The file's tensor -> our parameters in it, as views where NumPy can."""
        stacked = self.axes.startswith("part ")
        axes = self.axes.removeprefix("part ")
        return {
            path: _rearrange(array[i] if stacked else array, axes, param_axes, self.sizes)
            for i, (path, param_axes) in enumerate(self.params.items())
        }

    def from_params(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """The inverse of to_params; takes any mapping that has this tensor's paths.

        Raises:
          ValueError: the format keeps one tensor for parameters that differ.
        """
        axes = self.axes.removeprefix("part ")
        arrays = [
            _rearrange(params[path], param_axes, axes, self.sizes)
            for path, param_axes in self.params.items()
        ]
        if axes != self.axes:
            return np.stack(arrays)
        if any(a.tobytes() != arrays[0].tobytes() for a in arrays[1:]):
            raise ValueError(f"{' and '.join(self.params)} differ, and {self.name} is one tensor")
        return arrays[0]


def file_tensors(
    config: ModelConfig, table: tuple[Row, ...], ours: Mapping[str, str] = OURS, rank: int = 0
) -> dict[str, FileTensor]:
    """Every tensor that the format of `table` has for this model: name -> FileTensor.

    Args:
      ours: the axes of the parameters that the table names.
      rank: r, if there are LoRA factors among them.
    """
    tensors = {}
    for row in table:
        layers = [
            n for n, layer_type in enumerate(config.layer_types) if row.only in (None, layer_type)
        ]
        for n in layers if "N" in re.split(r"[._/]", row.name) else [None]:
            name = _numbered(row.name, n)
            params = {_numbered(path, n): ours[path] for path in row.params}
            sizes = _sizes(config, n, len(params)) | {"r": rank}
            tensors[name] = FileTensor(name, row.axes, params, sizes)
    return tensors


def _numbered(name: str, layer: int | None) -> str:
    return name if layer is None else re.sub(r"(?<![A-Za-z])N(?![A-Za-z])", str(layer), name)


def _sizes(config: ModelConfig, layer: int | None, parts: int) -> dict[str, int]:
    sizes = {
        "1": 1,
        "2": 2,
        "part": parts,
        "V": config.vocab_size,
        "D": config.width,
        "F": config.mlp_dim,
        "E": config.num_experts,
        "f": config.expert_dim,
        "H": config.num_heads,
    }
    if layer is not None:
        full = config.layer_types[layer] == "full"
        sizes["K"] = config.full_num_kv_heads if full else config.num_kv_heads
        sizes["h"] = config.full_head_dim if full else config.head_dim
    return sizes


def split_axes(axes: str) -> list[str]:
    """Each axis of an array: "(H h) D" -> ["(H h)", "D"]."""
    return re.findall(r"\([^)]*\)|\S+", axes)


def axis_groups(axes: str) -> list[list[str]]:
    """The names in each axis of an array: "(H h) D" -> [["H", "h"], ["D"]]."""
    return [axis.strip("()").split() for axis in split_axes(axes)]


def _shape(axes: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[name] for name in group) for group in axis_groups(axes))


def _rearrange(array: np.ndarray, source: str, target: str, sizes: Mapping[str, int]) -> np.ndarray:
    names = [name for group in axis_groups(source) for name in group]
    order = [names.index(name) for group in axis_groups(target) for name in group]
    array = array.reshape([sizes[name] for name in names]).transpose(order)
    return array.reshape(_shape(target, sizes))
