"""The training step at the released model's sizes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from configs import chat_26b_lora
from diffusiongemma import DiffusionGemma, ModelConfig
from train.config import RunConfig
from train.loop import prepare
from train.optimizer import make_optimizer
from train.step import init_state, make_train_step


def test_a_step_of_the_chat_config_fits_together():
    """The step is traced with the 26B model's sizes and one layer of each type, without arrays."""
    fields = chat_26b_lora.get_config().to_dict()
    config = RunConfig.from_dict(fields | {"init": "DIR"})
    shape = ModelConfig.preset("26b_a4b", layer_types=("sliding", "full"))
    mesh = config.mesh.make()
    with jax.set_mesh(mesh):
        model = nnx.eval_shape(
            lambda: prepare(DiffusionGemma(shape, rngs=nnx.Rngs(0), dtype=jnp.bfloat16), config)
        )
        optimizer = make_optimizer(config.optimizer, config.steps)
        graphdef, state, frozen = init_state(model, optimizer, mesh)
        rows, length = config.batch_size, 1024 + 4 * 256
        batch = {
            name: jax.ShapeDtypeStruct(dims, np.int32)
            for name, dims in {
                "tokens": (rows, length),
                "prompt_len": (rows,),
                "answer_len": (rows,),
                "num_canvases": (rows,),
            }.items()
        }
        step = make_train_step(graphdef, optimizer, config.loss, 0, like=state)
        after, figures = jax.eval_shape(step, state, frozen, batch)
    for was, now in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (was.shape, was.dtype) == (now.shape, now.dtype)
    assert figures["encoder_loss"].dtype == figures["denoise_loss"].dtype == jnp.float32
    # All that is trained are float32 factors; experts, router and self-conditioning have some.
    paths = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(state.params)}
    assert all(path.endswith((".lora_a", ".lora_b")) for path in paths)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.params))
    for part in ("moe.gate_up", "router.proj", "mlp.down", "attention.q", "conditioner.mlp.up"):
        assert any(f"{part}.lora_a" in path for path in paths), part
