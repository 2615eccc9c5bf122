"""What reading one image takes: arithmetic and memory, counted before any is done.

Arithmetic is counted from the shapes of the linear maps and of attention. A multiplication and an
addition are two operations (FLOP). Norms, softmax and rotations are not counted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from diffusiongemma import Images, ModelConfig
from diffusiongemma.parameters import in_tower
from diffusiongemma.quantized_model import abstract_model
from sample.split_model import SplitModel
from train.compile_target import CompileTarget
from train.memory_plan import GB, compiled_dtype, temporaries

TERA = 10**12


class ImagePlan(NamedTuple):
    """Reading one image.

    Attributes:
      soft_tokens: the number of its soft tokens.
      patches: the number of its patches.
      tower_flop: operations of the vision tower.
      text_flop: operations of the text model for the soft tokens.
      weights: bytes of the tower's weights.
      pixels: bytes of the patches, in float32.
      cache: bytes that the soft tokens take in the KV cache.
      activations: bytes of the tower's activations; None if the program was not compiled.
    """

    soft_tokens: int
    patches: int
    tower_flop: int
    text_flop: int
    weights: int
    pixels: int
    cache: int
    activations: int | None

    def table(self) -> str:
        """The plan as lines of text."""
        known = "unknown" if self.activations is None else f"{self.activations / GB:.3f}"
        return "\n".join(
            [
                f"One image of {self.soft_tokens} soft tokens, {self.patches} patches",
                "",
                f"{'TFLOP, vision tower':32}{self.tower_flop / TERA:10.3f}",
                f"{'TFLOP, text model':32}{self.text_flop / TERA:10.3f}",
                f"{'GB, weights of the tower':32}{self.weights / GB:10.3f}",
                f"{'GB, pixels':32}{self.pixels / GB:10.3f}",
                f"{'GB, soft tokens in the KV cache':32}{self.cache / GB:10.3f}",
                f"{'GB, activations of the tower':32}{known:>10}",
            ]
        )


def plan_image(
    shape: ModelConfig, soft_tokens: int, dtype: DTypeLike, target: CompileTarget | None
) -> ImagePlan:
    """Plans the reading of one image.

    Args:
      shape: a model with a vision tower.
      soft_tokens: the number of soft tokens of the image.
      dtype: dtype of the weights.
      target: the device to compile the tower for, so that activations are known; None leaves them
        unknown.

    Raises:
      ValueError: the model has no vision tower, or there is no compiler for the target.
    """
    vision = shape.vision
    if vision is None:
        raise ValueError("the model has no vision tower, so it reads no images")
    model, patches = abstract_model(shape, dtype), soft_tokens * vision.pool_size**2
    cache = jax.eval_shape(lambda: model.init_cache(1, soft_tokens)).layers
    activations = None
    if target:
        seen = SplitModel(abstract_model(shape, jnp.dtype(compiled_dtype(dtype, target))))
        images = Images(
            jax.ShapeDtypeStruct((1, patches, vision.patch_values), np.float32),
            jax.ShapeDtypeStruct((1, patches, 2), np.int32),
        )
        see = jax.jit(lambda seen, images: seen.merge().vision(images))
        activations = temporaries(target, see, seen, images)
    return ImagePlan(
        soft_tokens=soft_tokens,
        patches=patches,
        tower_flop=_tower_flop(model, patches, soft_tokens),
        text_flop=_text_flop(model, soft_tokens),
        weights=_bytes(nnx.state(model.vision)),
        pixels=4 * patches * vision.patch_values,
        cache=_bytes(cache),
        activations=activations,
    )


def _tower_flop(model: nnx.Module, patches: int, soft_tokens: int) -> int:
    vision, total = model.config.vision, 0
    for path, size in _kernels(model):
        if in_tower(path):
            total += 2 * size * (soft_tokens if path == "vision.projection.kernel" else patches)
    # Scores, then the mean of the values, in every layer; then the pooling, a product too.
    total += vision.num_layers * 4 * patches**2 * vision.num_heads * vision.head_dim
    return total + 2 * patches * soft_tokens * vision.width


def _text_flop(model: nnx.Module, tokens: int) -> int:
    config, total = model.config, 0
    for path, size in _kernels(model):
        if path.startswith("layers."):
            stacked = path.endswith(("moe.gate_up.kernel", "moe.down.kernel"))
            used = size * config.top_k // config.num_experts if stacked else size
            total += 2 * tokens * used
    heads = {"sliding": config.head_dim, "full": config.full_head_dim}
    for kind in config.layer_types:
        total += 4 * tokens**2 * config.num_heads * heads[kind]
    return total


def _kernels(model: nnx.Module) -> list[tuple[str, int]]:
    """Path and size of every linear map's matrix."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    named = ((".".join(map(str, path)), param) for path, param in flat)
    return [(path, param.get_value().size) for path, param in named if path.endswith(".kernel")]


def _bytes(tree: object) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
