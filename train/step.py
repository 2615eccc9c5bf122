"""One jit-compiled training step over plain state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffusiongemma import DiffusionGemma
from diffusiongemma.sharding import state_sharding
from train.loss import LossConfig, sft_loss


class TrainState(NamedTuple):
    """All that a step changes. The RNG of step n is fold_in(seed's key, n), so n is its state."""

    step: jax.Array  # [] int32, steps done
    params: nnx.State  # the trained weights
    opt_state: Any
    ema: nnx.State | None  # running mean of params, if wanted: the weights that are used later

    @property
    def result(self) -> nnx.State:
        """The weights that the run is for: the running mean if there is one."""
        return self.params if self.ema is None else self.ema


def init_state(
    model: DiffusionGemma,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    ema: bool = False,
) -> tuple[nnx.GraphDef, TrainState, nnx.State]:
    """Splits a model into (graphdef, trained state, frozen weights).

    With LoRA factors in the model (diffusiongemma.lora) they alone are trained; else everything is.
    The model's arrays move into the result: drop the model afterwards, for steps donate them.
    Of an abstract model (nnx.eval_shape) the result is abstract too, its shardings included.

    Args:
      mesh: the parameters go where sharding.AXES says, and the optimizer's state with them; None:
        one device.
      ema: whether the state has a running mean, which starts as the weights.
    """
    trained = nnx.LoRAParam if has_lora(model) else nnx.Param
    graphdef, params, frozen = nnx.split(model, trained, ...)

    def create(params):
        mean = jax.tree.map(jnp.copy, params) if ema else None
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), mean)

    if mesh is None:
        return graphdef, create(params), frozen
    params, frozen = (_place(x, state_sharding(x, mesh)) for x in (params, frozen))
    where = _state_shardings(jax.eval_shape(create, params), optimizer, mesh)
    if _is_abstract(params):
        state = _place(jax.eval_shape(create, params), where)
    else:
        state = jax.jit(create, out_shardings=where)(params)
    return graphdef, state, frozen


def has_lora(model: DiffusionGemma) -> bool:
    return bool(jax.tree.leaves(nnx.state(model, nnx.LoRAParam)))


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss_config: LossConfig,
    seed: int,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    like: TrainState | None = None,
) -> Callable:
    """step(state, frozen, batch) -> (state, metrics); the old state's buffers are donated.

    Args:
      accumulate: parts that the batch's rows are divided into, whose gradients are averaged; only
        one part's activations are in memory at a time.
      ema_decay: d, of the running mean d x mean + (1 - d) x params, where the state has one.
      like: a state on a mesh, whose placement the steps keep; None: one device.
    """

    def step(state: TrainState, frozen: nnx.State, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def gradients(batch, key):
            def loss_fn(params):
                model = nnx.merge(graphdef, params, frozen)
                return sft_loss(model, batch, key, loss_config)

            (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
            return grads, {"loss": loss, **metrics}

        if accumulate == 1:
            grads, metrics = gradients(batch, key)
        else:
            grads, metrics = _averaged(gradients, batch, key, accumulate)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        mean = state.ema
        if mean is not None:
            mean = optax.incremental_update(params, mean, 1 - ema_decay)
        metrics |= {"grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, opt_state, mean), metrics

    out = None if like is None else (jax.tree.map(lambda x: x.sharding, like), None)
    return jax.jit(step, donate_argnums=0, out_shardings=out)


def _averaged(gradients: Callable, batch: dict[str, jax.Array], key: jax.Array, parts: int):
    """The mean of gradients(part of the batch, its key) over its parts, one after another."""
    # Every part takes rows from all over the batch, so each device has its share of every part.
    split = {k: v.reshape(-1, parts, *v.shape[1:]).swapaxes(0, 1) for k, v in batch.items()}
    first = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(gradients, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes)

    def add(total, part):
        index, rows = part
        found = gradients(rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, found), None

    total, _ = jax.lax.scan(add, zeros, (jnp.arange(parts), split))
    return jax.tree.map(lambda x: x / parts, total)


def _state_shardings(
    shapes: TrainState, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    whole = NamedSharding(mesh, PartitionSpec())
    params = state_sharding(shapes.params, mesh)

    def like_its_param(leaf, param, sharding):
        return sharding if leaf.shape == param.shape else whole

    opt_state = optax.tree_map_params(
        optimizer,
        like_its_param,
        shapes.opt_state,
        shapes.params,
        params,
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, params, opt_state, None if shapes.ema is None else params)


def _is_abstract(tree: Any) -> bool:
    return any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(tree))


def _place(tree: Any, where: Any) -> Any:
    if _is_abstract(tree):
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where
        )
    return jax.device_put(tree, where)
