"""One jit-compiled training step over plain state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from diffusiongemma import DiffusionGemma
from train.loss import LossConfig, sft_loss


class TrainState(NamedTuple):
    """All that a step changes. The RNG of step n is fold_in(seed's key, n), so n is its state."""

    step: jax.Array  # [] int32, steps done
    params: nnx.State  # the trained weights
    opt_state: Any


def init_state(
    model: DiffusionGemma, optimizer: optax.GradientTransformation
) -> tuple[nnx.GraphDef, TrainState, nnx.State]:
    """Splits a model into (graphdef, trained state, frozen weights).

    With LoRA factors in the model (diffusiongemma.lora) they alone are trained; else everything is.
    The model's arrays move into the result: drop the model afterwards, for steps donate them.
    """
    trained = nnx.LoRAParam if has_lora(model) else nnx.Param
    graphdef, params, frozen = nnx.split(model, trained, ...)
    return graphdef, TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)), frozen


def has_lora(model: DiffusionGemma) -> bool:
    return bool(jax.tree.leaves(nnx.state(model, nnx.LoRAParam)))


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss_config: LossConfig,
    seed: int,
) -> Callable:
    """step(state, frozen, batch) -> (state, metrics); the old state's buffers are donated."""

    def step(state: TrainState, frozen: nnx.State, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_fn(params):
            model = nnx.merge(graphdef, params, frozen)
            return sft_loss(model, batch, key, loss_config)

        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, **metrics, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(step, donate_argnums=0)
