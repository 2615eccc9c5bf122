"""The shape of the vision tower: VisionConfig."""

import dataclasses

from files.fields import check_fields, check_positive

# Fields of VisionConfig that are at least 1.
SIZES = (
    *("width", "num_heads", "num_kv_heads", "head_dim", "mlp_dim", "num_places"),
    *("patch_size", "pool_size"),
)


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Shape and constants of the vision tower (docs/MODEL.md, Images).

    Attributes:
      width: W, size of the tower's residual stream.
      num_layers: blocks of the tower.
      num_heads: H, query heads.
      num_kv_heads: K, key/value heads.
      head_dim: h, size of a head. Half of it turns by x, and half by y.
      mlp_dim: F, hidden units of a block's MLP.
      num_places: S, rows of each of the two tables of positions. The largest x or y is S - 1.
      patch_size: pixels along a side of a patch.
      pool_size: patches along a side of the square that becomes one soft token.
      rope_theta: base of the rotary embedding.
      norm_eps: epsilon of all norms.
      clipped: whether the linear maps of the blocks clip what they read and what they return.
      standardize: whether a bias and a scale are applied to what was pooled.
      bidirectional: whether a token of an image also sees the later tokens of its image, in the
        sliding layers of the text model.
      image_id: token that stands for one soft token.
      begin_image_id: token before the soft tokens of an image.
      end_image_id: token after them.

    Raises:
      ValueError: fields that do not fit together.
    """

    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    num_places: int = 10_240
    patch_size: int = 16
    pool_size: int = 3
    rope_theta: float = 100.0
    norm_eps: float = 1e-6
    clipped: bool = False
    standardize: bool = True
    bidirectional: bool = True
    image_id: int = 258_880
    begin_image_id: int = 255_999
    end_image_id: int = 258_882

    def __post_init__(self) -> None:
        try:
            check_fields(self)
            check_positive(self, SIZES, ("rope_theta", "norm_eps"))
        except ValueError as error:
            raise ValueError(f"vision: {error}") from None
        for name in ("num_layers", "image_id", "begin_image_id", "end_image_id"):
            if getattr(self, name) < 0:
                raise ValueError(f"vision: {name} must not be negative, got {getattr(self, name)}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"vision: {self.num_heads} query heads cannot share {self.num_kv_heads} KV heads"
            )
        if self.head_dim % 4:
            raise ValueError(
                f"vision: head_dim {self.head_dim} must be a multiple of 4: RoPE rotates pairs in "
                "each half of a head"
            )

    @property
    def patch_values(self) -> int:
        """P, the numbers in a patch: (y, x, channel), row after row."""
        return 3 * self.patch_size**2


# The tower of Google's released model: 0.573 B weights.
RELEASED = VisionConfig(
    width=1152, num_layers=27, num_heads=16, num_kv_heads=16, head_dim=72, mlp_dim=4304
)
