"""Names and axes of the vision tower's tensors in the formats, as rows of tensor_tables.py."""

from diffusiongemma.formats.table_row import TableRow
from diffusiongemma.parameters import BOUNDS

# What the names of the tower's tensors begin with, in the "hf" format and in Google's.
HF_PREFIXES = ("model.encoder.vision_tower.", "model.encoder.embed_vision.")
GOOGLE_PREFIXES = ("vision_encoder/", "embedder/mm_")

_TOWER, _LAYER = "model.encoder.vision_tower.", "model.encoder.vision_tower.encoder.layers.N."
_OURS = "vision.layers.N."
_HF_MAPS = (
    ("self_attn.q_proj", "(H h) W", "attention.q"),
    ("self_attn.k_proj", "(K h) W", "attention.k"),
    ("self_attn.v_proj", "(K h) W", "attention.v"),
    ("self_attn.o_proj", "W (H h)", "attention.o"),
    ("mlp.gate_proj", "F W", "mlp.gate"),
    ("mlp.up_proj", "F W", "mlp.up"),
    ("mlp.down_proj", "W F", "mlp.down"),
)
_HF_NORMS = (
    ("input_layernorm", "W", "pre_attention_norm"),
    ("self_attn.q_norm", "h", "attention.q_norm"),
    ("self_attn.k_norm", "h", "attention.k_norm"),
    ("post_attention_layernorm", "W", "post_attention_norm"),
    ("pre_feedforward_layernorm", "W", "pre_mlp_norm"),
    ("post_feedforward_layernorm", "W", "post_mlp_norm"),
)
HF_VISION = (
    TableRow(
        f"{_TOWER}patch_embedder.input_proj.weight", "W P", ("vision.patch_projection.kernel",)
    ),
    TableRow(
        f"{_TOWER}patch_embedder.position_embedding_table", "2 S W", ("vision.position_table",)
    ),
    *(
        TableRow(f"{_LAYER}{name}.linear.weight", axes, (f"{_OURS}{ours}.kernel",))
        for name, axes, ours in _HF_MAPS
    ),
    *(
        TableRow(f"{_LAYER}{name}.{bound}", "", (f"{_OURS}{ours}.{bound}",))
        for name, _, ours in _HF_MAPS
        for bound in BOUNDS
    ),
    *(
        TableRow(f"{_LAYER}{name}.weight", axes, (f"{_OURS}{ours}.scale",))
        for name, axes, ours in _HF_NORMS
    ),
    TableRow(f"{_TOWER}std_bias", "W", ("vision.standardize.bias",)),
    TableRow(f"{_TOWER}std_scale", "W", ("vision.standardize.scale",)),
    TableRow(
        "model.encoder.embed_vision.embedding_projection.weight",
        "D W",
        ("vision.projection.kernel",),
    ),
)

# Google's tree stacks the layers of the tower.
_BLOCK = "vision_encoder/transformer/stacked_layers/block/"
_GOOGLE_MAPS = (
    ("attn/q_einsum", "N H W h", ("attention.q",)),
    ("attn/kv_einsum", "N part K W h", ("attention.k", "attention.v")),
    ("attn/attn_vec_einsum", "N H h W", ("attention.o",)),
    ("mlp/gating_einsum", "N part F W", ("mlp.gate", "mlp.up")),
    ("mlp/linear", "N F W", ("mlp.down",)),
)
_GOOGLE_NORMS = (
    ("pre_attention_norm", "N W", "pre_attention_norm"),
    ("attn/query_norm", "N h", "attention.q_norm"),
    ("attn/key_norm", "N h", "attention.k_norm"),
    ("post_attention_norm", "N W", "post_attention_norm"),
    ("pre_ffw_norm", "N W", "pre_mlp_norm"),
    ("post_ffw_norm", "N W", "post_mlp_norm"),
)
GOOGLE_VISION = (
    TableRow("vision_encoder/entry/input_projection/w", "P W", ("vision.patch_projection.kernel",)),
    TableRow("vision_encoder/entry/pos_emb", "S 2 W", ("vision.position_table",)),
    *(
        TableRow(f"{_BLOCK}{name}/w", axes, tuple(f"{_OURS}{o}.kernel" for o in ours))
        for name, axes, ours in _GOOGLE_MAPS
    ),
    *(
        TableRow(f"{_BLOCK}{name}/clip_{bound}", "N", tuple(f"{_OURS}{o}.{bound}" for o in ours))
        for name, _, ours in _GOOGLE_MAPS
        for bound in BOUNDS
    ),
    *(
        TableRow(f"{_BLOCK}{name}/scale", axes, (f"{_OURS}{ours}.scale",))
        for name, axes, ours in _GOOGLE_NORMS
    ),
    TableRow("vision_encoder/standardize/bias", "W", ("vision.standardize.bias",)),
    TableRow("vision_encoder/standardize/scale", "W", ("vision.standardize.scale",)),
    TableRow("embedder/mm_input_projection/w", "W D", ("vision.projection.kernel",)),
)
