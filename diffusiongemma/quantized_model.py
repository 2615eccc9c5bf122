"""Models with quantized weights: which ones are, quantizing a model, and one made at random.

Quantized are the embedding and all linear maps but the router's projection: the experts' in the
precision that is asked for, everything else in int8. Norms, scalars and the router keep the model's
dtype, and so do activations.
"""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from diffusiongemma.config import ModelConfig
from diffusiongemma.lora import linears
from diffusiongemma.ops.quantized import Precision, QuantizedMatrix, quantize
from diffusiongemma.sharding import param_sharding, state_sharding
from diffusiongemma.transformer import DiffusionGemma

EMBEDDING = "embedder.embedding"
EXPERTS = ("moe.gate_up.kernel", "moe.down.kernel")


def precision_of(path: str, precision: Precision) -> Precision | None:
    """How a model's parameter is quantized whose experts are in `precision`; None: it is not."""
    if path.endswith(EXPERTS):
        return precision
    is_matrix = path == EMBEDDING or path.endswith(".kernel")
    return "int8" if is_matrix and not path.endswith("router.proj.kernel") else None


def quantize_model(model: DiffusionGemma, precision: Precision) -> DiffusionGemma:
    """Quantizes a model in place, matrix by matrix, and returns it. LoRA factors stay beside it.

    Raises:
      ValueError: an unknown precision, a model that is quantized already, or experts whose matrices
        have an odd number of rows, in int4.
    """
    if precision not in ("int8", "int4"):
        raise ValueError(f"quantize is 'int8' or 'int4', not '{precision}'")
    if quantized_precision(model):
        raise ValueError("the model is quantized already")
    own = precision_of(EMBEDDING, precision)
    table = model.embedder.embedding
    model.embedder.embedding = QuantizedMatrix(quantize(table[...], own, by_row=True), table.dtype)
    for path, linear in linears(model):
        if own := precision_of(f"{path}.kernel", precision):
            kernel = linear.kernel
            linear.kernel = QuantizedMatrix(quantize(kernel[...], own), kernel.dtype)
    return model


def quantized_precision(model: DiffusionGemma) -> Precision | None:
    """The precision that a model is quantized in; None if it is not."""
    if not isinstance(model.embedder.embedding, QuantizedMatrix):
        return None
    return model.layers[0].moe.gate_up.kernel[...].precision


def abstract_model(
    config: ModelConfig, dtype=jnp.float32, precision: Precision | None = None, seed: int = 0
) -> DiffusionGemma:
    """A model of shapes, quantized or not."""
    return nnx.eval_shape(lambda: _create(config, dtype, precision, seed))


def create_quantized(
    config: ModelConfig,
    seed: int,
    precision: Precision,
    dtype=jnp.float32,
    mesh: Mesh | None = None,
) -> DiffusionGemma:
    """A quantized model with random weights, made where they belong, one array after the other.

    Nothing is made and then quantized: there are only the model and bits for one array in memory.
    Values are uniform, and the scales of a matrix equal, such that its weights have the variance of
    create_model's.

    Args:
      dtype: of what is not quantized.
      mesh: None: one device.
    """
    model = abstract_model(config, dtype, precision, seed)
    rest = nnx.state(model, nnx.Param)

    def make_rest() -> nnx.State:
        # Of what is quantized, which is no result, XLA makes nothing.
        return nnx.state(_create(config, dtype, precision, seed), nnx.Param)

    where = None if mesh is None else state_sharding(rest, mesh)
    nnx.update(model, jax.jit(make_rest, out_shardings=where)())
    key = jax.random.key(seed, impl="rbg")  # of the others, each bit takes memory for several
    place = (lambda path, shape: None) if mesh is None else param_sharding(mesh)
    for i, (path, matrix, fan_in) in enumerate(_quantized_matrices(model)):
        values, scales = matrix.values, matrix.scales
        limit = 4.2 if values.dtype == jnp.uint8 else 73.6  # deviation of a uniform value
        size = jnp.asarray(fan_in**-0.5 / limit, scales.dtype)
        where = place(f"{path}.values", values.shape)
        values.set_value(_uniform(values.shape, values.dtype, where)(jax.random.fold_in(key, i)))
        where = place(f"{path}.scales", scales.shape)
        scales.set_value(_full(scales.shape, where)(size))
    return model


def _quantized_matrices(model: DiffusionGemma) -> Iterator[tuple[str, QuantizedMatrix, int]]:
    """(path, matrix, fan-in) of every quantized matrix."""
    yield EMBEDDING, model.embedder.embedding, model.config.width
    for path, linear in linears(model):
        if isinstance(linear.kernel, QuantizedMatrix):
            yield f"{path}.kernel", linear.kernel, linear.kernel.shape[-2]


@functools.cache
def _uniform(shape: tuple[int, ...], dtype, where: jax.sharding.Sharding | None) -> Callable:
    """A compiled function that makes values of a key: uniform bits, the lowest value replaced."""

    def make(key: jax.Array) -> jax.Array:
        bits = jax.random.bits(key, shape, jnp.uint8)
        if dtype == jnp.int8:
            return jnp.maximum(jax.lax.bitcast_convert_type(bits, jnp.int8), -127)
        low, high = (jnp.where(nibble == 8, 0, nibble) for nibble in (bits & 15, bits >> 4))
        return low | (high << 4)

    return jax.jit(make, out_shardings=where)


@functools.cache
def _full(shape: tuple[int, ...], where: jax.sharding.Sharding | None) -> Callable:
    return jax.jit(lambda value: jnp.full(shape, value), out_shardings=where)


def _create(config: ModelConfig, dtype, precision: Precision | None, seed: int) -> DiffusionGemma:
    model = DiffusionGemma(config, rngs=nnx.Rngs(seed), dtype=dtype)
    return quantize_model(model, precision) if precision else model
