"""How the costly parts are computed: the platform's way, or one that is chosen."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.backend import set_backend, takes_kernels
from diffusiongemma.moe import MoE
from tests.diffusiongemma.kernels.gpu_programs import on_gpus


def test_the_backend_is_chosen_by_platform_or_by_hand():
    moe = MoE(ModelConfig.preset("tiny"), rngs=nnx.Rngs(0))
    x = jnp.ones((1, 12, 32))

    def traced() -> str:
        return str(jax.make_jaxpr(lambda x: moe(x, x))(x))

    assert jax.default_backend() == "cpu"
    assert "while" in traced() and "pallas_call" not in traced()
    set_backend(moe, "interpret")
    assert "pallas_call" in traced()
    set_backend(moe, None)
    assert "pallas_call" not in traced()
    set_backend(moe, "dense")
    assert "while" not in traced() and "pallas_call" not in traced()
    set_backend(moe, None)
    with on_gpus(1):
        assert "while" not in traced() and "pallas_call" not in traced()  # small experts: dense
    with pytest.raises(ValueError, match="no backend 'cuda'; there are: reference, dense, loop"):
        set_backend(moe, "cuda")


def test_attention_and_the_head_take_kernels_on_one_gpu_or_when_told():
    assert takes_kernels("pallas") and takes_kernels("interpret")
    assert not takes_kernels(None) and not takes_kernels("loop")
    with on_gpus(1):
        assert takes_kernels(None) and not takes_kernels("reference")
    with on_gpus(2):
        assert not takes_kernels(None)


def test_set_backend_reaches_every_layer():
    config = ModelConfig.preset("tiny")
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    set_backend(model, "pallas")
    for block in model.layers:
        assert block.moe.backend == block.attention.backend == "pallas"
