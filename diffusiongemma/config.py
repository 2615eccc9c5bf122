"""The shape of a DiffusionGemma network: ModelConfig, and its named sizes.

The network has one set of weights and two modes. encode reads clean tokens causally and writes
their keys and values to a cache. denoise reads a noisy canvas bidirectionally behind that cache,
and predicts the clean token at every position. Read on in transformer.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from diffusiongemma.vision.config import RELEASED, VisionConfig
from files.fields import check_fields, check_positive, field_hints, typed

LayerType = Literal["sliding", "full"]
Mode = Literal["encode", "denoise"]

# Fields of ModelConfig that are at least 1, and those that are above 0.
SIZES = (
    *("vocab_size", "width", "num_heads", "num_kv_heads", "head_dim", "full_num_kv_heads"),
    *("full_head_dim", "mlp_dim", "num_experts", "expert_dim", "canvas_size", "max_length"),
)
POSITIVE = ("rope_theta", "full_rope_theta", "full_rope_fraction", "softcap", "norm_eps")


def five_to_one(num_layers: int) -> tuple[LayerType, ...]:
    """The types of layers: five sliding ones and a full one, repeated, so that the last is full.

    Raises:
      ValueError: the number of layers is no multiple of 6.
    """
    if num_layers % 6:
        raise ValueError(f"the 5:1 pattern needs a multiple of 6 layers, not {num_layers}")
    return ("sliding", "sliding", "sliding", "sliding", "sliding", "full") * (num_layers // 6)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and constants of the network (docs/MODEL.md, Network).

    The fields with defaults are the same in all sizes.

    Attributes:
      vocab_size: V, rows of the embedding, which is tied with the output head.
      width: D, size of the residual stream.
      layer_types: "sliding" or "full" for each layer, first to last.
      num_heads: H, query heads of every layer.
      num_kv_heads: K, key/value heads of a sliding layer.
      head_dim: h, size of a head in sliding layers.
      full_num_kv_heads: K of a full layer, which has no value projection.
      full_head_dim: h of a full layer.
      window: tokens that a token sees in sliding layers: itself and the window - 1 before it.
      mlp_dim: F, hidden units of the dense branch and of the self-conditioning MLP.
      num_experts: E.
      top_k: experts that a token uses.
      expert_dim: f, hidden units of an expert.
      canvas_size: C, tokens that are denoised together.
      rope_theta: base of the rotary embedding in sliding layers.
      full_rope_theta: the same in full layers.
      full_rope_fraction: share of the frequencies that rotates in full layers.
      softcap: logits are softcap * tanh(logits / softcap).
      norm_eps: epsilon of all norms.
      max_length: longest context in tokens.
      pad_id: token that fills up rows.
      eos_id: token that ends a text, and fills up a canvas in training.
      bos_id: token that begins a text.
      stop_ids: tokens that end a generation.
      vision: shape of the vision tower; None if the model has none.

    Raises:
      ValueError: fields that do not fit together.
    """

    vocab_size: int
    width: int
    layer_types: tuple[LayerType, ...]
    num_heads: int
    num_kv_heads: int
    head_dim: int
    full_num_kv_heads: int
    full_head_dim: int
    window: int
    mlp_dim: int
    num_experts: int
    top_k: int
    expert_dim: int
    canvas_size: int
    rope_theta: float = 10_000.0
    full_rope_theta: float = 1_000_000.0
    full_rope_fraction: float = 0.25
    softcap: float = 30.0
    norm_eps: float = 1e-6
    max_length: int = 262_144
    pad_id: int = 0
    eos_id: int = 1
    bos_id: int = 2
    stop_ids: tuple[int, ...] = (1, 106, 50)
    vision: VisionConfig | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive(self, SIZES, POSITIVE)
        if not self.layer_types:
            raise ValueError("layer_types must name at least one layer, 'sliding' or 'full'")
        for kv_heads in (self.num_kv_heads, self.full_num_kv_heads):
            if self.num_heads % kv_heads:
                raise ValueError(f"{self.num_heads} query heads cannot share {kv_heads} KV heads")
        if self.head_dim % 2 or self.full_head_dim % 2:
            raise ValueError("head dims must be even: RoPE rotates pairs")
        if not 1 <= self.top_k <= self.num_experts:
            raise ValueError(f"top_k {self.top_k} must be from 1 to {self.num_experts} experts")
        if self.window < 2:
            raise ValueError(f"window must be at least 2, not {self.window}")
        if self.full_rope_fraction > 1:
            raise ValueError(f"full_rope_fraction must be at most 1, not {self.full_rope_fraction}")
        ids = [(name, getattr(self, name)) for name in ("pad_id", "eos_id", "bos_id")]
        for name, index in [*ids, *(("stop_ids", index) for index in self.stop_ids)]:
            check_token(name, index, self.vocab_size)

    @property
    def num_layers(self) -> int:
        return len(self.layer_types)

    def to_fields(self) -> dict[str, Any]:
        """The fields as dicts, tuples and numbers. A model without a tower has no "vision"."""
        fields = dataclasses.asdict(self)
        return {k: v for k, v in fields.items() if k != "vision" or v is not None}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "ModelConfig":
        """The config of what to_fields gave, also if it has been JSON since then.

        Raises:
          TypeError, ValueError: they are not the fields of a config.
        """
        if fields.get("vision") is not None:
            fields = fields | {"vision": VisionConfig(**fields["vision"])}
        return cls(**_typed_fields(fields))

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "ModelConfig":
        """A named size.

        Args:
          name: one of PRESETS.
          **overrides: fields to replace.

        Raises:
          ValueError: there is no such name, or no such field, or a field has a wrong value.
        """
        if name not in PRESETS:
            raise ValueError(f"no model preset '{name}'; there are: {', '.join(sorted(PRESETS))}")
        return PRESETS[name].with_fields(overrides)

    def with_fields(self, overrides: Mapping[str, Any]) -> "ModelConfig":
        """This config with some fields replaced.

        Raises:
          ValueError: there is no such field, or a field has a wrong value.
        """
        return dataclasses.replace(self, **_typed_fields(overrides))


def check_token(name: str, index: int, vocab_size: int) -> None:
    """Raises ValueError, which begins with the name, if an id is that of no token."""
    if not 0 <= index < vocab_size:
        last = vocab_size - 1
        raise ValueError(f"{name}: {index} is no token: the vocabulary has 0 to {last}")


def _typed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a ModelConfig in their types; a list becomes a tuple."""
    hints = field_hints(ModelConfig)
    if unknown := sorted(set(fields) - set(hints)):
        raise ValueError(f"no field {unknown[0]!r} of a model: there are {', '.join(hints)}")
    return {name: typed(hints[name], value, name) for name, value in fields.items()}


PRESETS = {
    # Google's released model: 25.25 B weights, of which a token uses 3.8 B, and the tower.
    "26b_a4b": ModelConfig(
        vocab_size=262_144,
        width=2816,
        layer_types=five_to_one(30),
        num_heads=16,
        num_kv_heads=8,
        head_dim=256,
        full_num_kv_heads=2,
        full_head_dim=512,
        window=1024,
        mlp_dim=2112,
        num_experts=128,
        top_k=8,
        expert_dim=704,
        canvas_size=256,
        vision=RELEASED,
    ),
    # The model that the README trains on a laptop.
    "small": ModelConfig(
        vocab_size=1024,
        width=96,
        layer_types=five_to_one(6),
        num_heads=4,
        num_kv_heads=2,
        head_dim=24,
        full_num_kv_heads=1,
        full_head_dim=48,
        window=256,
        mlp_dim=96,
        num_experts=8,
        top_k=2,
        expert_dim=32,
        canvas_size=90,
        max_length=4096,
    ),
    # For measurements on a CPU: 0.1 B weights, and a canvas as large as the released model's.
    "medium": ModelConfig(
        vocab_size=16_384,
        width=512,
        layer_types=five_to_one(12),
        num_heads=8,
        num_kv_heads=4,
        head_dim=64,
        full_num_kv_heads=2,
        full_head_dim=128,
        window=512,
        mlp_dim=512,
        num_experts=32,
        top_k=4,
        expert_dim=128,
        canvas_size=256,
        max_length=8192,
    ),
    # For tests: everything is as small as can be, and the window is shorter than a prompt.
    "tiny": ModelConfig(
        vocab_size=64,
        width=32,
        layer_types=five_to_one(6),
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        full_num_kv_heads=1,
        full_head_dim=16,
        window=8,
        mlp_dim=48,
        num_experts=4,
        top_k=2,
        expert_dim=16,
        canvas_size=12,
        max_length=1024,
        stop_ids=(1, 50),
    ),
}
