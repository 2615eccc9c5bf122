"""Names and axes of the tensors in each format, as tables that are read both ways, bit for bit.

Each format has a table of rows. A row says which of our parameters a tensor of the format holds,
and in which order of axes. Axes are written as in diffusiongemma/parameters.py, with two more
names, "N" and "part" (see table_row.py). "N" in a name stands for the number of a layer.

The rows of the vision tower are in vision_tables.py, and the tables of LoRA factors are in
lora_tables.py. The config.json of the "hf" format is translated by hf_config.py.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

import numpy as np

from diffusiongemma.config import LayerType, ModelConfig
from diffusiongemma.formats.table_row import TableRow
from diffusiongemma.formats.vision_tables import GOOGLE_VISION, HF_VISION
from diffusiongemma.parameters import BOUNDS, OURS, STANDARDIZE, axis_groups, in_tower, split_axes


def _hf_layer(name: str, axes: str, param: str, only: LayerType | None = None) -> TableRow:
    return TableRow(f"model.decoder.layers.N.{name}", axes, (f"layers.N.{param}",), only)


def _google_layer(name: str, axes: str, *params: str, only: LayerType | None = None) -> TableRow:
    return TableRow(f"layer_N/{name}", axes, tuple(f"layers.N.{p}" for p in params), only)


# The released safetensors files, with the names of transformers. Linear maps are [out, in]. The
# encoder shares every tensor of the decoder except the layer scalars. A shared tensor is stored
# once.
HF = (
    TableRow("model.decoder.embed_tokens.weight", "V D", ("embedder.embedding",)),
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
    TableRow(
        "model.encoder.language_model.layers.N.layer_scalar", "1", ("layers.N.encode_scalar",)
    ),
    TableRow(
        "model.decoder.self_conditioning.pre_norm.weight", "D", ("self_conditioner.pre_norm.scale",)
    ),
    *(
        TableRow(
            f"model.decoder.self_conditioning.{name}_proj.weight",
            axes,
            (f"self_conditioner.mlp.{name}.kernel",),
        )
        for name, axes in (("gate", "F D"), ("up", "F D"), ("down", "D F"))
    ),
    TableRow("model.decoder.norm.weight", "D", ("final_norm.scale",)),
    *HF_VISION,
)

# Google's Linen tree. Its "mlp" is the mixture of experts, and its "mlp2" is the dense branch.
GOOGLE = (
    TableRow("embedder/input_embedding", "V D", ("embedder.embedding",)),
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
    TableRow("self_conditioner/pre_norm/scale", "D", ("self_conditioner.pre_norm.scale",)),
    TableRow(
        "self_conditioner/ffw/gating_einsum",
        "part F D",
        ("self_conditioner.mlp.gate.kernel", "self_conditioner.mlp.up.kernel"),
    ),
    TableRow("self_conditioner/ffw/linear", "F D", ("self_conditioner.mlp.down.kernel",)),
    TableRow("final_norm/scale", "D", ("final_norm.scale",)),
    *GOOGLE_VISION,
)

# This project's own format: one tensor for each parameter, in the parameter's own layout.
OWN = tuple(
    TableRow(name, axes, (name,), "sliding" if name == "layers.N.attention.v.kernel" else None)
    for name, axes in OURS.items()
)


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """One tensor of a format for one model: a TableRow with its layer and its sizes filled in.

    Attributes:
      name: the tensor's name in the file.
      axes: the tensor's axes in the file.
      params: path -> axes of our parameters in the tensor.
      sizes: name of an axis -> its size.
      dtype: the only dtype that the tensor may have. None: float32, float16 or bfloat16.
    """

    name: str
    axes: str
    params: Mapping[str, str]
    sizes: Mapping[str, int]
    dtype: np.dtype | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape in the file."""
        return _shape(self.axes, self.sizes)

    def param_shape(self, path: str) -> tuple[int, ...]:
        """The shape of one of our parameters in the tensor."""
        return _shape(self.params[path], self.sizes)

    @property
    def may_be_infinite(self) -> bool:
        """Whether the tensor holds bounds, which are infinite where nothing is clipped."""
        return all(path.endswith(BOUNDS) for path in self.params)

    @property
    def corner(self) -> "FileTensor":
        """The first few elements along every axis, which are the same elements in every format."""
        # An axis of the file may be a group of names that starts with H, K or 2. With size 1 for
        # that first name, the corner is one slice of the axis.
        limit = {"part": self.sizes["part"], "H": 1, "K": 1, "2": 1}
        sizes = {name: min(size, limit.get(name, 4)) for name, size in self.sizes.items()}
        return dataclasses.replace(self, sizes=sizes)

    @property
    def slices(self) -> list[tuple[str, ...]]:
        """The paths of the parameters in each slice along the leading "N" and "part" axes.

        Several parameters in one slice are copies of it. A tensor without these axes is one slice.
        """
        paths, stack = list(self.params), self._stack[0]
        each = len(paths) // math.prod(self.sizes[name] for name in stack)
        return [tuple(paths[i : i + each]) for i in range(0, len(paths), each)]

    def to_params(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Our parameters in the file's tensor, by path. They are views where NumPy can make one."""
        (stack, axes), slices = self._stack, self.slices
        parts = array.reshape(len(slices), *array.shape[len(stack) :])
        return {
            path: _rearrange(parts[i, ...], axes, self.params[path], self.sizes)
            for i, paths in enumerate(slices)
            for path in paths
        }

    def from_params(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """The file's tensor, made of our parameters: the inverse of to_params.

        Args:
          params: path -> array. It may have more paths than this tensor needs.

        Raises:
          ValueError: the format keeps one tensor for several parameters, and they differ.
        """
        stack, axes = self._stack
        parts = []
        for paths in self.slices:
            first, *others = (
                _rearrange(params[path], self.params[path], axes, self.sizes) for path in paths
            )
            if any(other.tobytes() != first.tobytes() for other in others):
                raise ValueError(f"{' and '.join(paths)} differ, but {self.name} is one tensor")
            parts.append(first)
        return np.stack(parts).reshape(self.shape) if stack else parts[0]

    @property
    def _stack(self) -> tuple[list[str], str]:
        """The names of the axes that stack parameters, and the other axes."""
        axes = split_axes(self.axes)
        stack = [name for name in axes if name in ("N", "part")]
        return stack, " ".join(axes[len(stack) :])


def file_tensors(
    config: ModelConfig, table: tuple[TableRow, ...], ours: Mapping[str, str] = OURS, rank: int = 0
) -> dict[str, FileTensor]:
    """Every tensor that a format has for this model: name -> FileTensor.

    Args:
      config: the shape of the model.
      table: the format's table.
      ours: path -> axes of the parameters that the table names.
      rank: the rank r of LoRA factors. It matters only if the table names factors.
    """
    tensors = {}
    for row in table:
        layers = _layers(config, row)
        if not layers:
            continue
        for group in [layers] if row.axes.startswith("N") else [[n] for n in layers]:
            name = _numbered(row.name, group[0])
            params = {_numbered(path, n): ours[path] for n in group for path in row.params}
            sizes = _sizes(config, group[0], row) | {"r": rank}
            tensors[name] = FileTensor(name, row.axes, params, sizes)
    return tensors


def _layers(config: ModelConfig, row: TableRow) -> list[int | None]:
    """The layers that have the tensor of a row, or its parameters; [None] if it is in no layer."""
    path, vision = row.params[0], config.vision
    in_layers = "N" in path.split(".")
    if not in_tower(path):
        found = [n for n, t in enumerate(config.layer_types) if row.only in (None, t)]
    elif (
        vision is None
        or (path.endswith(BOUNDS) and not vision.clipped)
        or (path.startswith(STANDARDIZE) and not vision.standardize)
    ):
        return []
    else:
        found = list(range(vision.num_layers))
    return found if in_layers else [None]


def _numbered(name: str, layer: int | None) -> str:
    return name if layer is None else re.sub(r"(?<![A-Za-z])N(?![A-Za-z])", str(layer), name)


def _sizes(config: ModelConfig, layer: int | None, row: TableRow) -> dict[str, int]:
    sizes = {"1": 1, "2": 2, "part": len(row.params), "D": config.width}
    if in_tower(row.params[0]):
        vision = config.vision
        return sizes | {
            "N": vision.num_layers,
            "W": vision.width,
            "P": vision.patch_values,
            "S": vision.num_places,
            "F": vision.mlp_dim,
            "H": vision.num_heads,
            "K": vision.num_kv_heads,
            "h": vision.head_dim,
        }
    sizes |= {
        "V": config.vocab_size,
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


def _shape(axes: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[name] for name in group) for group in axis_groups(axes))


def _rearrange(array: np.ndarray, source: str, target: str, sizes: Mapping[str, int]) -> np.ndarray:
    names = [name for group in axis_groups(source) for name in group]
    order = [names.index(name) for group in axis_groups(target) for name in group]
    array = array.reshape([sizes[name] for name in names]).transpose(order)
    return array.reshape(_shape(target, sizes))
