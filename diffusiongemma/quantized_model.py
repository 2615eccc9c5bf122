"""Models with quantized weights: quantizing a model, and making a random one.

The experts' matrices are quantized in the precision that is asked for. The embedding and all other
linear maps are quantized in int8, except for the router's projection and the vision tower. Norms,
scalars, the router, the tower and activations keep the model's dtype.
"""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from diffusiongemma.config import ModelConfig
from diffusiongemma.lora import linears
from diffusiongemma.ops.quantized import Precision, QuantizedMatrix, quantize
from diffusiongemma.parameters import in_tower
from diffusiongemma.sharding import param_sharding, state_sharding
from diffusiongemma.transformer import DiffusionGemma

EMBEDDING = "embedder.embedding"
EXPERTS = ("moe.gate_up.kernel", "moe.down.kernel")


def precision_of(path: str, precision: Precision) -> Precision | None:
    """How a parameter is quantized in a model whose experts are quantized in `precision`.

    Args:
      path: the parameter's path, such as "layers.3.moe.down.kernel".
      precision: "int8" or "int4".

    Returns:
      the parameter's precision; None if it is not quantized.
    """
    if path.endswith(EXPERTS):
        return precision
    is_matrix = path == EMBEDDING or path.endswith(".kernel")
    stays = in_tower(path) or path.endswith("router.proj.kernel")
    return "int8" if is_matrix and not stays else None


def quantize_model(model: DiffusionGemma, precision: Precision) -> DiffusionGemma:
    """Quantizes a model in place, matrix by matrix; LoRA factors stay as they are.

    Args:
      model: the model.
      precision: precision of the experts' matrices.

    Returns:
      the same model.

    Raises:
      ValueError: the precision is unknown, the model is quantized already, or the precision is int4
        and the experts' matrices have an odd number of rows.
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
    """The precision of a model's experts; None if the model is not quantized."""
    if not isinstance(model.embedder.embedding, QuantizedMatrix):
        return None
    return model.layers[0].moe.gate_up.kernel[...].precision


def abstract_model(
    config: ModelConfig,
    dtype: DTypeLike = jnp.float32,
    precision: Precision | None = None,
    seed: int = 0,
) -> DiffusionGemma:
    """A model whose parameters are shapes without data, quantized if a precision is given."""
    return nnx.eval_shape(lambda: _create(config, dtype, precision, seed))


def create_quantized(
    config: ModelConfig,
    seed: int,
    precision: Precision,
    dtype: DTypeLike = jnp.float32,
    mesh: Mesh | None = None,
) -> DiffusionGemma:
    """A quantized model with random weights, made one after the other where they belong.

    Quantized values are drawn directly, so that memory holds only the model and the random bits of
    one array. They are uniform, and all scales of a matrix are equal, such that its weights have
    the variance that create_model gives them.

    Args:
      config: the shape of the network.
      seed: random seed.
      precision: precision of the experts' matrices.
      dtype: dtype of the parameters that are not quantized, and of activations.
      mesh: the devices; None for one device.
    """
    model = abstract_model(config, dtype, precision, seed)
    rest = nnx.state(model, nnx.Param)

    def make_rest() -> nnx.State:
        # XLA removes the computation of the quantized arrays, because they are no result here.
        return nnx.state(_create(config, dtype, precision, seed), nnx.Param)

    where = None if mesh is None else state_sharding(rest, mesh)
    nnx.update(model, jax.jit(make_rest, out_shardings=where)())
    key = jax.random.key(seed, impl="rbg")  # other generators take more memory than they fill
    place = (lambda path, shape: None) if mesh is None else param_sharding(mesh)
    for i, (path, matrix, fan_in) in enumerate(_quantized_matrices(model)):
        values, scales = matrix.values, matrix.scales
        limit = 4.2 if values.dtype == jnp.uint8 else 73.6  # standard deviation of the values
        size = jnp.asarray(fan_in**-0.5 / limit, scales.dtype)
        where = place(f"{path}.values", values.shape)
        values.set_value(_uniform(values.shape, values.dtype, where)(jax.random.fold_in(key, i)))
        where = place(f"{path}.scales", scales.shape)
        scales.set_value(_full(scales.shape, where)(size))
    return model


def _quantized_matrices(model: DiffusionGemma) -> Iterator[tuple[str, QuantizedMatrix, int]]:
    """Path, matrix and fan-in of every quantized matrix."""
    yield EMBEDDING, model.embedder.embedding, model.config.width
    for path, linear in linears(model):
        if isinstance(linear.kernel, QuantizedMatrix):
            yield f"{path}.kernel", linear.kernel, linear.kernel.shape[-2]


@functools.cache
def _uniform(
    shape: tuple[int, ...], dtype: DTypeLike, where: jax.sharding.Sharding | None
) -> Callable[[jax.Array], jax.Array]:
    """A compiled function that makes random values from a key.

    The values are uniform bits, except that the lowest number, which quantize never gives, is
    replaced.
    """

    def make(key: jax.Array) -> jax.Array:
        bits = jax.random.bits(key, shape, jnp.uint8)
        if dtype == jnp.int8:
            return jnp.maximum(jax.lax.bitcast_convert_type(bits, jnp.int8), -127)
        low, high = (jnp.where(nibble == 8, 0, nibble) for nibble in (bits & 15, bits >> 4))
        return low | (high << 4)

    return jax.jit(make, out_shardings=where)


@functools.cache
def _full(
    shape: tuple[int, ...], where: jax.sharding.Sharding | None
) -> Callable[[jax.Array], jax.Array]:
    """A compiled function that fills an array with a value."""
    return jax.jit(lambda value: jnp.full(shape, value), out_shardings=where)


def _create(
    config: ModelConfig, dtype: DTypeLike, precision: Precision | None, seed: int
) -> DiffusionGemma:
    model = DiffusionGemma(config, rngs=nnx.Rngs(seed), dtype=dtype)
    return quantize_model(model, precision) if precision else model
