"""What a run or a generation takes of each device's memory, counted before anything is allocated.

Weights, gradients, optimizer and cache are counted from their shapes and the table of sharding.py.
Activations are XLA's own figure for the compiled program, beside its arguments. Compiled for H100s
(compile_target.py) they are those of the very program that runs there, its kernels included.
Compiled for virtual CPU devices they are an upper bound: in float32, for that compiler would widen
bfloat16 operands and keep the copies, and with all gradients of a step's experts in memory at once,
which fsdp would divide. Quantized weights stay what they are, and what the program widens of them
counts as activations. XLA's scheduler for CPUs would widen all of them at once, to have work for
its threads, so its other one is asked for, which saves memory as that for GPUs does.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffusiongemma import ModelConfig
from diffusiongemma.ops.quantized import Precision, QuantizedParam
from diffusiongemma.quantized_model import abstract_model
from diffusiongemma.sharding import BATCH, MeshConfig, state_sharding
from sample.sampler import denoise_canvas
from sample.split_model import SplitModel
from sample.step import SamplerConfig
from train.compile_target import Target, devices
from train.config import RunConfig
from train.loop import prepare
from train.optimizer import make_optimizer
from train.step import TrainState, init_state, make_train_step

GB = 10**9
OPTIONS = {
    "cpu": {"xla_cpu_scheduler_type": 1},  # CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED
    "h100": {},
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes of each kind.

    Attributes:
      title: what is planned.
      parameters: how many the model has.
      trained: how many of them change.
      parts: name -> (bytes in all, bytes on a device).
      target: what it was compiled for; None: nothing.
      activations: bytes on a device; None: not compiled.
    """

    title: str
    parameters: int
    trained: int
    parts: dict[str, tuple[int, int]]
    target: Target | None
    activations: int | None

    @property
    def a_device(self) -> int:
        return sum(part[1] for part in self.parts.values()) + (self.activations or 0)

    def table(self, gpu: float | None) -> str:
        """The plan as lines of text; `gpu` in GB (10^9 bytes)."""
        lines = [
            self.title,
            f"{self.parameters / 1e9:.3f} B parameters, {self.trained / 1e9:.3f} B trained",
            "",
            f"{'GB':32}{'in all':>10}{'a device':>10}",
        ]
        for name, (total, held) in self.parts.items():
            lines.append(f"{name:32}{total / GB:10.2f}{held / GB:10.2f}")
        known = "unknown" if self.activations is None else f"{self.activations / GB:.2f}"
        name = "activations (at most)" if self.target == "cpu" else "activations"
        lines.append(f"{name:32}{'':10}{known:>10}")
        lines.append(f"{'sum':32}{'':10}{self.a_device / GB:10.2f}")
        if gpu is not None:
            fits = "fits" if self.a_device <= gpu * GB else "does not fit"
            without = ", activations not counted" if self.activations is None else ""
            lines.append(f"\nIt {fits} a device of {gpu:g} GB{without}.")
        return "\n".join(lines)


def plan_training(
    config: RunConfig, shape: ModelConfig, target: Target | None, quantize: Precision | None = None
) -> Plan:
    """A step of a run. Raises ValueError if the mesh does not divide the model.

    Args:
      target: what to compile it for, to know of the activations; None: nothing.
      quantize: how the init's weights are quantized; then there must be LoRA factors.
    """
    if quantize and not config.lora.rank:
        raise ValueError(f"quantize {quantize}: only LoRA factors can be trained: give lora.rank")
    config.mesh.check(shape, config.batch_size)
    mesh = config.mesh.make(devices(target or "cpu", config.mesh.size))
    _, state, frozen = _abstract(config, shape, mesh, quantize)
    gradients = _bytes(state.params)
    if config.accumulate > 1:  # summed up in float32
        gradients = tuple(n * 4 // jnp.dtype(config.dtype).itemsize for n in gradients)
    parts = {
        "quantized weights": _bytes(nnx.filter_state(frozen, QuantizedParam)),
        "frozen weights": _bytes(nnx.filter_state(frozen, nnx.Not(QuantizedParam))),
        "trained weights": _bytes(state.params),
        "gradients": gradients,
        "optimizer": _bytes(state.opt_state),
        "running mean": _bytes(state.ema),
    }
    loss = config.loss
    title = (
        f"A training step of {config.batch_size} rows of {config.data.prompt_length} + "
        f"{loss.num_canvases} x {loss.canvas_size} tokens, {loss.noise_draws} noise draws, "
        f"{config.accumulate} part(s), remat {'on' if config.remat else 'off'}, "
        f"{_dtypes(config.dtype, quantize)}; mesh {config.mesh}"
    )
    return Plan(
        title,
        _parameters(shape) + (_count(state.params) if config.lora.rank else 0),
        _count(state.params),
        {name: part for name, part in parts.items() if part[0]},
        target,
        _training_activations(config, shape, mesh, quantize, target) if target else None,
    )


def plan_generation(
    shape: ModelConfig,
    mesh_config: MeshConfig,
    dtype,
    batch_size: int,
    context: int,
    target: Target | None,
    quantize: Precision | None = None,
) -> Plan:
    """Denoising a canvas behind `context` tokens. Raises ValueError as plan_training."""
    mesh_config.check(shape)
    mesh = mesh_config.make(devices(target or "cpu", mesh_config.size))
    rows = BATCH if batch_size % (mesh_config.data * mesh_config.fsdp) == 0 else None

    def arguments(dtype) -> tuple[SplitModel, Any]:
        model = abstract_model(shape, dtype, quantize)
        split = SplitModel(model)
        cache = jax.eval_shape(lambda: model.init_cache(batch_size, context))
        by_row = NamedSharding(mesh, PartitionSpec(rows))
        cache = _placed(cache, jax.tree.map(lambda _: by_row, cache))
        placed = _placed(split.state, state_sharding(split.state, mesh))
        return SplitModel.join(split.structure, placed), cache

    with jax.set_mesh(mesh):
        split, cache = arguments(dtype)
        activations = None
        if target:
            sampler = SamplerConfig(canvas_size=shape.canvas_size, stop_ids=shape.stop_ids)
            keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch_size))
            done = jax.ShapeDtypeStruct((batch_size,), bool)
            rest = keys, done, 0, shape.canvas_size, sampler
            arrays = arguments(_compiled_dtype(dtype, target))
            activations = _temporaries(target, denoise_canvas, *arrays, *rest)
    title = (
        f"Denoising {batch_size} x {shape.canvas_size} tokens behind {context}, "
        f"{_dtypes(jnp.dtype(dtype).name, quantize)}; mesh {mesh_config}"
    )
    parts = {
        "quantized weights": _bytes(nnx.filter_state(split.state, QuantizedParam)),
        "weights": _bytes(nnx.filter_state(split.state, nnx.Not(QuantizedParam))),
        "KV cache": _bytes(cache),
    }
    parts = {name: part for name, part in parts.items() if part[0]}
    return Plan(title, _parameters(shape), 0, parts, target, activations)


def _abstract(
    config: RunConfig, shape: ModelConfig, mesh: Mesh, quantize: Precision | None
) -> tuple[nnx.GraphDef, TrainState, nnx.State]:
    """What train.step.init_state gives, of shapes."""
    optimizer = make_optimizer(config.optimizer, config.steps)
    base = abstract_model(shape, jnp.dtype(config.dtype), quantize)
    model = nnx.eval_shape(lambda base: prepare(base, config), base)
    return init_state(model, optimizer, mesh, ema=config.ema > 0)


def _training_activations(
    config: RunConfig,
    shape: ModelConfig,
    mesh: Mesh,
    quantize: Precision | None,
    target: Target,
) -> int:
    config = dataclasses.replace(config, dtype=_compiled_dtype(config.dtype, target))
    graphdef, state, frozen = _abstract(config, shape, mesh, quantize)
    optimizer = make_optimizer(config.optimizer, config.steps)
    rows = config.batch_size
    length = config.data.prompt_length + config.loss.num_canvases * config.loss.canvas_size
    where = NamedSharding(mesh, PartitionSpec(BATCH))
    shapes = {"tokens": (rows, length), "prompt_len": (rows,), "num_canvases": (rows,)}
    batch = {k: jax.ShapeDtypeStruct(v, np.int32, sharding=where) for k, v in shapes.items()}
    with jax.set_mesh(mesh):
        step = make_train_step(
            graphdef, optimizer, config.loss, 0, config.accumulate, config.ema, like=state
        )
        taken = _temporaries(target, step, state, frozen, batch)
    return max(taken - _bytes(state.params)[1], 0)  # the gradients, which are counted


def _placed(shapes: Any, where: Any) -> Any:
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where
    )


def _compiled_dtype(dtype: Any, target: Target) -> str:
    return "float32" if target == "cpu" else jnp.dtype(dtype).name


def _temporaries(target: Target, program, *args) -> int:
    """Bytes on a device beside the arguments: results that are not written over them, and XLA's."""
    analysis = program.lower(*args).compile(OPTIONS[target]).memory_analysis()
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.temp_size_in_bytes + max(results, 0)


def _bytes(tree: Any) -> tuple[int, int]:
    """(in all, on a device) of abstract arrays."""
    total = held = 0
    for x in jax.tree.leaves(tree):
        total += x.size * x.dtype.itemsize
        held += math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return total, held


def _count(tree: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


def _parameters(shape: ModelConfig) -> int:
    return _count(nnx.state(abstract_model(shape)))


def _dtypes(dtype: str, quantize: Precision | None) -> str:
    return f"{quantize} and {dtype}" if quantize else dtype
