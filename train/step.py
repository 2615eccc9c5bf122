"""One training step, compiled by jax.jit: a pure function of the run's state and a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffusiongemma import DiffusionGemma
from diffusiongemma.parameters import VISION
from diffusiongemma.sharding import state_sharding
from train.loss import Figures, LossConfig, sft_loss


class TrainState(NamedTuple):
    """All that a step changes.

    Random numbers need no state beside `step`: the random key of the step after n steps is
    fold_in(key(seed), n).

    Attributes:
      step: [] int32, the number of steps done.
      params: the trained weights.
      opt_state: the optimizer's state.
      ema: running mean of the trained weights; None if the run has none.
    """

    step: jax.Array
    params: nnx.State
    opt_state: optax.OptState
    ema: nnx.State | None

    @property
    def result(self) -> nnx.State:
        """The weights to evaluate and to save: the running mean, or `params` if there is none."""
        return self.params if self.ema is None else self.ema


def init_state(
    model: DiffusionGemma,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    ema: bool = False,
    tower: bool = False,
) -> tuple[nnx.GraphDef, TrainState, nnx.State]:
    """Splits a model into what a run trains and what it leaves as it is.

    If the model has LoRA factors (diffusiongemma/lora.py), only they are trained. Otherwise all
    weights are, and those of the vision tower if `tower` says so. The result shares the model's
    arrays, and training steps donate them. Drop the model afterwards.

    Args:
      model: the model. If it is abstract (nnx.eval_shape), the result is abstract too, and has
        shardings.
      optimizer: makes the optimizer's state.
      mesh: where the arrays go: parameters as diffusiongemma/sharding.py says, and each array of
        the optimizer's state beside its parameter. None for one device.
      ema: whether the state has a running mean. It starts as a copy of the trained weights.
      tower: whether the weights of the vision tower are trained, where all weights are.

    Returns:
      (graphdef, state, frozen): the model's structure, the state at step 0 and the frozen weights.
    """
    trained = nnx.Param if tower else nnx.All(nnx.Param, nnx.Not(_in_tower))
    trained = nnx.LoRAParam if has_lora(model) else trained
    graphdef, params, frozen = nnx.split(model, trained, ...)

    def create(params: nnx.State) -> TrainState:
        mean = jax.tree.map(jnp.copy, params) if ema else None
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), mean)

    if mesh is None:
        return graphdef, create(params), frozen
    params, frozen = (_place(x, state_sharding(x, mesh)) for x in (params, frozen))
    where = _state_shardings(jax.eval_shape(create, params), mesh)
    if _is_abstract(params):
        state = _place(jax.eval_shape(create, params), where)
    else:
        state = jax.jit(create, out_shardings=where)(params)
    return graphdef, state, frozen


def _in_tower(path: tuple, value: Any) -> bool:
    return path[0] == VISION


def has_lora(model: DiffusionGemma) -> bool:
    """Whether any linear map of the model has LoRA factors."""
    return bool(jax.tree.leaves(nnx.state(model, nnx.LoRAParam)))


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss_config: LossConfig,
    seed: int,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    like: TrainState | None = None,
) -> jax.stages.Wrapped:
    """Makes the training step: step(state, frozen, batch) -> (state, figures).

    The old state's buffers are donated. The figures are those of sft_loss, "loss" and "grad_norm",
    the norm of all gradients before clipping: float32 scalars.

    Args:
      graphdef: the model's structure, from init_state.
      optimizer: the optimizer that init_state was given.
      loss_config: the settings of the losses.
      seed: random seed of the losses' noise.
      accumulate: number of parts that the batch's rows are divided into. Gradients of the parts are
        computed one after another and averaged, so that only one part's activations are in memory
        at a time.
      ema_decay: d in the running mean's update d x mean + (1 - d) x params. It is used if the state
        has a running mean.
      like: a state on a mesh. Steps keep their arrays where this state's are. None for one device.
    """

    def step(
        state: TrainState, frozen: nnx.State, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, Figures]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def gradients(batch: dict[str, jax.Array], key: jax.Array) -> tuple[nnx.State, Figures]:
            def loss_fn(params: nnx.State) -> tuple[jax.Array, Figures]:
                model = nnx.merge(graphdef, params, frozen)
                return sft_loss(model, batch, key, loss_config)

            (loss, figures), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
            return grads, {"loss": loss, **figures}

        if accumulate == 1:
            grads, figures = gradients(batch, key)
        else:
            grads, figures = _averaged(gradients, batch, key, accumulate)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        mean = state.ema
        if mean is not None:
            mean = optax.incremental_update(params, mean, 1 - ema_decay)
        figures |= {"grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, opt_state, mean), figures

    out = None if like is None else (jax.tree.map(lambda x: x.sharding, like), None)
    return jax.jit(step, donate_argnums=0, out_shardings=out)


def _averaged(
    gradients: Callable[[dict[str, jax.Array], jax.Array], tuple[nnx.State, Figures]],
    batch: dict[str, jax.Array],
    key: jax.Array,
    parts: int,
) -> tuple[nnx.State, Figures]:
    """The mean of gradients(part of the batch, key of the part), computed one after another."""
    # Every part takes rows from all over the batch, so that each device has its share of every
    # part.
    split = {k: v.reshape(-1, parts, *v.shape[1:]).swapaxes(0, 1) for k, v in batch.items()}
    first = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(gradients, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes)

    def add(total: Any, part: tuple[jax.Array, dict[str, jax.Array]]) -> tuple[Any, None]:
        index, rows = part
        found = gradients(rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, found), None

    total, _ = jax.lax.scan(add, zeros, (jnp.arange(parts), split))
    return jax.tree.map(lambda x: x / parts, total)


def _state_shardings(shapes: TrainState, mesh: Mesh) -> TrainState:
    """A TrainState with shardings in the place of arrays.

    Args:
      shapes: the state with shapes in the place of arrays.
      mesh: the devices.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    params = state_sharding(shapes.params, mesh)
    paths, where = jax.tree.flatten_with_path(shapes.params)[0], jax.tree.leaves(params)
    known = {(path, x.shape): to for (path, x), to in zip(paths, where, strict=True)}

    def like_its_param(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        # The path ends as that of the parameter does. Factored moments have shapes of their own.
        ends = ((path[i:], leaf.shape) for i in range(len(path)))
        return next((known[end] for end in ends if end in known), whole)

    opt_state = jax.tree.map_with_path(like_its_param, shapes.opt_state)
    return TrainState(whole, params, opt_state, None if shapes.ema is None else params)


def _is_abstract(tree: Any) -> bool:
    """Whether a tree holds shapes in the place of arrays."""
    return any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(tree))


def _place(tree: Any, where: Any) -> Any:
    """Moves the arrays of a tree to the shardings of another; shapes only note them."""
    if _is_abstract(tree):
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, where
        )
    return jax.device_put(tree, where)
