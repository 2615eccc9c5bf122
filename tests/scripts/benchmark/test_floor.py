"""What a denoising step must read and compute, counted by hand for a tiny model."""

import jax
import jax.numpy as jnp

from diffusiongemma import ModelConfig
from scripts.benchmark import floor, inputs


def test_what_a_step_must_read_and_compute():
    config = ModelConfig.preset("tiny", layer_types=("full",))
    model = inputs.random_model(config, jnp.float32)
    # A router that prefers no expert takes the first two of the four experts.
    moe = model.layers[0].moe
    moe.router.proj.kernel[...] = jnp.zeros((32, 4))
    made = inputs.make_inputs(model, 2, 8, 8)
    assert floor.touched_experts(made) == [2]
    experts = sum(x[...].nbytes for x in (moe.gate_up.kernel, moe.down.kernel))
    everything = floor.floor_bytes(made, None)
    held = jax.tree.leaves((made.split, made.cache.layers))
    assert everything == sum(x.nbytes for x in held)
    assert everything - floor.floor_bytes(made, [1]) == experts * 3 // 4
    # Twice the 32 x 48 dense weights: three maps, two operations each, 12 tokens.
    wider = ModelConfig.preset("tiny", layer_types=("full",), mlp_dim=96)
    more = floor.floor_flops(wider, 2) - floor.floor_flops(config, 2)
    assert more == 2 * (2 * 12) * 2 * (3 * 32 * 48)  # in the layer and in the self-conditioner
