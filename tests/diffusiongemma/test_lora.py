"""LoRA factors change nothing at first, can be trained alone, and are merged exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.layers import Linear
from diffusiongemma.lora import NAMES, add_lora, in_mode, linears, matches, merge_lora
from diffusiongemma.parameters import in_tower
from tests.conftest import Compiled
from tests.diffusiongemma.formats.folders import TOWER

TOKENS = np.random.default_rng(0).integers(3, 64, (2, 9)).astype(np.int32)


def make() -> DiffusionGemma:
    config = ModelConfig.preset("tiny", layer_types=("sliding", "full"))
    return DiffusionGemma(config, rngs=nnx.Rngs(0))


def outputs(model: DiffusionGemma) -> tuple[np.ndarray, np.ndarray]:
    compiled = Compiled(model)
    logits, cache = compiled.encode(TOKENS)
    return np.asarray(logits), np.asarray(compiled.denoise(TOKENS, cache))


def test_fresh_factors_change_nothing_and_merged_ones_stay():
    model = make()
    before = outputs(model)
    paths = add_lora(model, 2, 4.0, rngs=nnx.Rngs(1))
    np.testing.assert_array_equal(outputs(model), before)
    # Both layers have q, k, o, the experts' two maps, the router and the MLP's three. One of them
    # has v. The self-conditioner has three.
    assert len(paths) == 2 * (3 + 2 + 1 + 3) + 1 + 3
    factors = nnx.state(model, nnx.LoRAParam)
    rng = np.random.default_rng(0)
    nnx.update(model, jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), factors))
    tuned = outputs(model)
    for new, old in zip(tuned, before, strict=True):
        assert np.abs(new - old).max() > 0.1
    merge_lora(model)
    assert not jax.tree.leaves(nnx.state(model, nnx.LoRAParam))
    np.testing.assert_allclose(outputs(model), tuned, atol=5e-5)


def test_the_pattern_chooses():
    model = make()
    paths = add_lora(model, 1, 1.0, rngs=nnx.Rngs(0), pattern=r"attention\.[qv]$")
    assert len(paths) == 2 + 1 and all("attention" in path for path in paths)
    with pytest.raises(ValueError, match="matches no linear map"):
        add_lora(make(), 1, 1.0, rngs=nnx.Rngs(0), pattern="nothing")
    with pytest.raises(ValueError, match="rank"):
        add_lora(make(), 0, 1.0, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("pattern", "count"),
    [(".*", 0), ("mlp", 0), ("vision", 16), (r"^(vision\.)?layers.*mlp\.up", 2)],
)
def test_the_vision_tower_gets_factors_only_if_the_pattern_names_it(pattern, count):
    config = ModelConfig.preset("tiny", layer_types=("full",), vision=TOWER)
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    found = [path for path, _ in linears(model) if matches(pattern, path)]
    assert sum(map(in_tower, found)) == count
    assert pattern == "vision" or len(found) > count


def test_each_mode_has_its_own_factors_and_their_gradients():
    linear = Linear(3, 2, rngs=nnx.Rngs(0))
    linear.lora_scale = 0.5
    for mode, value in (("encode", 2.0), ("denoise", 3.0)):
        for name, shape in zip(NAMES[mode], ((3, 1), (1, 2)), strict=True):
            setattr(linear, name, nnx.LoRAParam(jnp.full(shape, value)))
    x = jnp.ones((1, 3))
    plain = x @ linear.kernel[...]
    graph, trained, frozen = nnx.split(linear, nnx.LoRAParam, ...)

    def output(trained, mode):
        return in_mode(nnx.merge(graph, trained, frozen), mode)(x)

    for mode, value in (("encode", 2.0), ("denoise", 3.0)):
        np.testing.assert_allclose(output(trained, mode), plain + 3 * value**2 * 0.5, rtol=1e-6)
        gradients = jax.grad(lambda t, m: output(t, m).sum())(trained, mode)
        moved = {path[-1] for path, g in nnx.to_flat_state(gradients) if np.any(g[...])}
        assert moved == set(NAMES[mode])
    del linear.encode_lora_a, linear.encode_lora_b
    np.testing.assert_array_equal(in_mode(linear, "encode")(x), plain)
    with pytest.raises(ValueError, match="not the same for encode and denoise"):
        merge_lora(linear)
