"""Quantized models against models with the weights that they stand for, and random ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.lora import add_lora, linears, merge_lora
from diffusiongemma.ops.quantized import QuantizedMatrix, QuantizedParam, dequantize
from diffusiongemma.quantized_model import (
    abstract_model,
    create_quantized,
    quantize_model,
    quantized_precision,
)
from diffusiongemma.sharding import MeshConfig, param_sharding
from diffusiongemma.transformer import create_model
from tests.diffusiongemma.formats.folders import TOWER

CONFIG = ModelConfig.preset("tiny", layer_types=("full",), num_experts=8)
TOKENS = np.random.default_rng(0).integers(3, 64, (2, 9)).astype(np.int32)
CANVAS = np.random.default_rng(1).integers(3, 64, (2, 12)).astype(np.int32)


def widened(model: DiffusionGemma) -> DiffusionGemma:
    """A quantized model with plain weights in place of the quantized ones."""
    for module in (model.embedder, *(linear for _, linear in linears(model))):
        name = "embedding" if module is model.embedder else "kernel"
        matrix = getattr(module, name)
        if isinstance(matrix, QuantizedMatrix):
            setattr(module, name, nnx.Param(dequantize(matrix[...], matrix.dtype)))
    return model


def outputs(model: DiffusionGemma) -> list[jax.Array]:
    """The results of both modes, of the sampler's head and of the soft embedding."""
    return _outputs(*nnx.split(model))


@functools.partial(jax.jit, static_argnums=0)  # compiled once for all tests
def _outputs(graphdef, state):
    model = nnx.merge(graphdef, state)
    logits, cache = model.encode(TOKENS)
    first = model.denoise(CANVAS, cache)
    prediction = model.predict(CANVAS, cache, model.soft_embed(first / 0.7), 0.7)
    return logits, first, prediction.entropy, prediction.soft, prediction.best


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_quantized_model_is_one_with_the_dequantized_weights(precision):
    made = [quantize_model(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)), precision) for _ in range(2)]
    assert quantized_precision(made[0]) == precision
    assert isinstance(made[0].layers[0].moe.router.proj.kernel, nnx.Param)
    *found, best = outputs(made[0])
    *wanted, best_wanted = outputs(widened(made[1]))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-5)
    np.testing.assert_array_equal(best, best_wanted)
    assert quantized_precision(made[1]) is None
    original = DiffusionGemma(CONFIG, rngs=nnx.Rngs(0))
    some = "layers.0.moe.down", "layers.0.attention.q"
    for (path, plain), (_, other) in zip(linears(original), linears(made[1]), strict=True):
        if path in some:
            off = np.linalg.norm(plain.kernel[...] - other.kernel[...])
            off /= np.linalg.norm(plain.kernel[...])
            assert 0.001 < off < (0.15 if precision == "int4" and "moe" in path else 0.01)


def test_what_cannot_be_quantized():
    model = quantize_model(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)), "int8")
    with pytest.raises(ValueError, match="the model is quantized already"):
        quantize_model(model, "int4")
    with pytest.raises(ValueError, match="quantize is 'int8' or 'int4', not 'int2'"):
        quantize_model(model, "int2")
    with pytest.raises(ValueError, match="15 is odd: take int8"):
        abstract_model(ModelConfig.preset("tiny", expert_dim=15), precision="int4")


def test_the_vision_tower_is_not_quantized():
    config = dataclasses.replace(CONFIG, vision=TOWER)
    before, after = (nnx.state(abstract_model(config, precision=p)) for p in (None, "int8"))
    assert jax.tree.leaves(before["vision"]) == jax.tree.leaves(after["vision"])


def test_factors_are_not_merged_into_quantized_weights():
    model = quantize_model(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)), "int4")
    add_lora(model, 2, 4.0, rngs=nnx.Rngs(1), pattern=r"layers\.0\.(moe\.router|attention\.q)")
    with pytest.raises(ValueError, match=r"^layers\.0\.attention\.q is quantized, so factors"):
        merge_lora(model)
    assert model.layers[0].moe.router.proj.lora_a is not None  # no factors were merged


@pytest.mark.parametrize("precision, mesh", [("int8", None), ("int4", MeshConfig(2, 2, 2))])
def test_a_random_model_has_the_shapes_of_a_quantized_one(precision, mesh):
    devices = mesh and mesh.make()
    model = create_quantized(CONFIG, 0, precision, jnp.bfloat16, devices)
    wanted = nnx.state(abstract_model(CONFIG, jnp.bfloat16, precision))
    found = nnx.state(model)
    shapes = (
        jax.tree.map(lambda x: (x.shape, x.dtype.name), tree, is_leaf=lambda x: hasattr(x, "dtype"))
        for tree in (found, wanted)
    )
    assert next(shapes) == next(shapes)
    assert model.dtype == jnp.bfloat16
    if mesh is None:
        plain = create_model(CONFIG, 0)
        layers = [pair[0].embedder.embedding for pair in ((widened(model),), (plain,))]
        layers += [m.layers[0].moe.down.kernel for m in (model, plain)]
        layers += [m.layers[0].mlp.up.kernel for m in (model, plain)]
        spreads = [float(jnp.std(x[...].astype(jnp.float32))) for x in layers]
        np.testing.assert_allclose(spreads[0::2], spreads[1::2], rtol=0.1)
    else:
        down = model.layers[0].moe.down.kernel
        assert {down.values.sharding.spec, down.scales.sharding.spec} == {P("expert", None, "fsdp")}


def test_a_mesh_gives_what_one_device_gives():
    model = quantize_model(DiffusionGemma(CONFIG, rngs=nnx.Rngs(0)), "int4")
    wanted = outputs(model)
    mesh = MeshConfig(1, 4, 2).make()
    where = param_sharding(mesh)
    for path, variable in nnx.to_flat_state(nnx.state(model, (nnx.Param, QuantizedParam))):
        value = variable.get_value()
        value = jax.device_put(value, where(".".join(map(str, path)), value.shape))
        variable.set_value(value)
    with jax.set_mesh(mesh):
        found = outputs(model)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-5)
