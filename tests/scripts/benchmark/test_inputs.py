"""Models that are made for measurements: their size and the scale of their weights."""

import jax
import jax.numpy as jnp
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from scripts.benchmark.inputs import random_model


def test_the_medium_preset_has_a_tenth_of_a_billion_weights():
    config = ModelConfig.preset("medium")
    state = nnx.state(nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0))))
    assert 0.09e9 < sum(x.size for x in jax.tree.leaves(state)) < 0.11e9


def test_random_models_are_of_the_usual_scale():
    config = ModelConfig.preset("tiny", layer_types=("full",))
    found = nnx.state(random_model(config, jnp.float32))
    wanted = nnx.state(DiffusionGemma(config, rngs=nnx.Rngs(0)))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if a.ndim == 1:
            assert jnp.array_equal(a, b)
        else:
            assert 0.8 < a.std() / b.std() < 1.25
