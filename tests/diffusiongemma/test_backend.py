"""The choice of how experts, attention and head are computed."""

from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.backend import set_backend


def test_set_backend_reaches_every_layer():
    config = ModelConfig.preset("tiny")
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    set_backend(model, "pallas")
    for block in model.layers:
        assert block.moe.backend == block.attention.backend == "pallas"
