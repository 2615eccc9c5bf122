"""The memory that a training step or a generation takes on each device, before any is allocated.

Weights, gradients, optimizer state and KV cache are counted from their shapes and from the
shardings of diffusiongemma/sharding.py. The memory of activations is XLA's own figure for the
compiled program: its results and temporary arrays, without the arguments.

A program that is compiled for H100s (train/compile_target.py) is the program that runs there, with
its kernels. A program that is compiled for CPU devices gives an upper bound. It is compiled in
float32, because the CPU compiler would widen bfloat16 operands and keep the copies. It also holds
the gradients of all experts of a step at once, which `fsdp` would divide on GPUs. Quantized weights
are counted as they are stored; copies in a wider type count as activations. XLA's default
scheduler for CPUs would widen all quantized weights at once to keep its threads busy, so the plan
asks for the scheduler that saves memory. The scheduler for GPUs saves memory, too.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from data.images.room import PATCHES, POSITIONS
from diffusiongemma import ModelConfig
from diffusiongemma.attention import KVCache
from diffusiongemma.ops.quantized import Precision, QuantizedParam
from diffusiongemma.quantized_model import abstract_model
from diffusiongemma.sharding import BATCH, MeshConfig, state_sharding
from sample.sampler import denoise_canvas
from sample.split_model import SplitModel
from sample.step import SamplerConfig
from train.compile_target import CompileTarget, devices
from train.config import RunConfig
from train.loop import prepare
from train.optimizer import make_optimizer
from train.step import TrainState, init_state, make_train_step
from train.vision import with_tower

GB = 10**9
COMPILER_OPTIONS = {
    "cpu": {"xla_cpu_scheduler_type": 1},  # CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED
    "h100": {},
}


class TrainingSetup(NamedTuple):
    """The training step that is planned.

    Attributes:
      config: the run. Its `init`, `preset` and `overrides` are not read.
      shape: the model.
      quantize: how the initial weights are quantized; None if they are not. Quantized weights are
        not trained, so the run must have LoRA factors.
    """

    config: RunConfig
    shape: ModelConfig
    quantize: Precision | None = None


class GenerationSetup(NamedTuple):
    """The denoising of one canvas that is planned.

    Attributes:
      shape: the model.
      mesh: the devices.
      dtype: dtype of the weights that are not quantized.
      batch_size: B, rows.
      context: tokens in each row's KV cache.
      quantize: how the weights are quantized; None if they are not.
    """

    shape: ModelConfig
    mesh: MeshConfig = MeshConfig()
    dtype: DTypeLike = jnp.bfloat16
    batch_size: int = 1
    context: int = 4096
    quantize: Precision | None = None


class Size(NamedTuple):
    """Bytes of some arrays: on all devices together, and on one of them."""

    total: int
    per_device: int


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """The memory of a training step or of a generation.

    Attributes:
      title: one line that says what is planned.
      parameters: number of the model's parameters.
      trained: number of the parameters that the run trains.
      parts: name -> Size of the arrays that the program starts from.
      target: the device that the program was compiled for; None if it was not compiled.
      activations: bytes of activations on one device; None if the program was not compiled.
    """

    title: str
    parameters: int
    trained: int
    parts: dict[str, Size]
    target: CompileTarget | None
    activations: int | None

    @property
    def per_device(self) -> int:
        """Bytes on one device, with activations if they are known."""
        return sum(size.per_device for size in self.parts.values()) + (self.activations or 0)

    def table(self, gpu: float | None) -> str:
        """The plan as lines of text.

        Args:
          gpu: memory of a device in GB (10^9 bytes). With it, a last line says whether the plan
            fits. None leaves the line out.
        """
        lines = [
            self.title,
            f"{self.parameters / 1e9:.3f} B parameters, {self.trained / 1e9:.3f} B trained",
            "",
            f"{'GB':32}{'total':>10}{'per device':>12}",
        ]
        for name, size in self.parts.items():
            lines.append(f"{name:32}{size.total / GB:10.2f}{size.per_device / GB:12.2f}")
        known = "unknown" if self.activations is None else f"{self.activations / GB:.2f}"
        name = "activations (at most)" if self.target == "cpu" else "activations"
        lines.append(f"{name:32}{'':10}{known:>12}")
        lines.append(f"{'sum':32}{'':10}{self.per_device / GB:12.2f}")
        if gpu is not None:
            fits = "fits" if self.per_device <= gpu * GB else "does not fit"
            without = ", activations not counted" if self.activations is None else ""
            lines.append(f"\nIt {fits} a device of {gpu:g} GB{without}.")
        return "\n".join(lines)


def plan_training(setup: TrainingSetup, target: CompileTarget | None) -> MemoryPlan:
    """Plans one training step.

    Args:
      setup: the run and its model.
      target: the device to compile the step for, so that activations are known; None leaves them
        unknown.

    Raises:
      ValueError: the mesh does not divide the model or the batch, the weights are quantized and
        there are no LoRA factors, or there is no compiler for the target.
    """
    config, quantize = setup.config, setup.quantize
    setup = setup._replace(shape=with_tower(setup.shape, config.images))
    if quantize and not config.lora.rank:
        raise ValueError(f"quantize {quantize}: only LoRA factors can be trained: give lora.rank")
    config.mesh.check(setup.shape, config.batch_size)
    mesh = config.mesh.make(devices(target or "cpu", config.mesh.size))
    _, state, frozen = _abstract_state(setup, mesh)
    gradients = _size(state.params)
    if config.accumulate > 1:  # the sum over parts of the batch is float32
        itemsize = jnp.dtype(config.dtype).itemsize
        gradients = Size(*(bytes * 4 // itemsize for bytes in gradients))
    parts = {
        "quantized weights": _size(nnx.filter_state(frozen, QuantizedParam)),
        "frozen weights": _size(nnx.filter_state(frozen, nnx.Not(QuantizedParam))),
        "trained weights": _size(state.params),
        "gradients": gradients,
        "optimizer": _size(state.opt_state),
        "running mean": _size(state.ema),
    }
    loss = config.loss
    images, room = "", config.images
    if room.per_row:
        images = f"{room.per_row} image(s) of {room.soft_tokens} soft tokens in a row, "
    title = (
        f"A training step of {config.batch_size} rows of {config.data.prompt_length} + "
        f"{loss.num_canvases} x {loss.canvas_size} tokens, {loss.noise_draws} noise draws, "
        f"{images}{config.accumulate} part(s), remat {'on' if config.remat else 'off'}, "
        f"{_dtype_names(config.dtype, quantize)}; mesh {config.mesh}"
    )
    trained = _count(state.params)
    return MemoryPlan(
        title=title,
        parameters=_parameters(setup.shape) + (trained if config.lora.rank else 0),
        trained=trained,
        parts=_without_empty(parts),
        target=target,
        activations=_training_activations(setup, mesh, target) if target else None,
    )


def plan_generation(setup: GenerationSetup, target: CompileTarget | None) -> MemoryPlan:
    """Plans the denoising of one canvas behind a full KV cache.

    Args:
      setup: the model, its devices, the batch and the context.
      target: the device to compile the denoising loop for, so that activations are known; None
        leaves them unknown.

    Raises:
      ValueError: the mesh does not divide the model, or there is no compiler for the target.
    """
    shape, batch_size = setup.shape, setup.batch_size
    setup.mesh.check(shape)
    mesh = setup.mesh.make(devices(target or "cpu", setup.mesh.size))
    rows = BATCH if batch_size % (setup.mesh.data * setup.mesh.fsdp) == 0 else None

    def arguments(dtype: DTypeLike) -> tuple[SplitModel, KVCache]:
        model = abstract_model(shape, dtype, setup.quantize)
        split = SplitModel(model)
        cache = jax.eval_shape(lambda: model.init_cache(batch_size, setup.context))
        by_row = NamedSharding(mesh, PartitionSpec(rows))
        cache = _placed(cache, jax.tree.map(lambda _: by_row, cache))
        placed = _placed(split.state, state_sharding(split.state, mesh))
        return SplitModel.join(split.structure, placed), cache

    with jax.set_mesh(mesh):
        split, cache = arguments(setup.dtype)
        activations = None
        if target:
            sampler = SamplerConfig(canvas_size=shape.canvas_size, stop_ids=shape.stop_ids)
            keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch_size))
            done = jax.ShapeDtypeStruct((batch_size,), bool)
            rest = keys, done, 0, shape.canvas_size, sampler
            arrays = arguments(compiled_dtype(setup.dtype, target))
            activations = temporaries(target, denoise_canvas, *arrays, *rest)
    title = (
        f"Denoising {batch_size} x {shape.canvas_size} tokens behind {setup.context}, "
        f"{_dtype_names(setup.dtype, setup.quantize)}; mesh {setup.mesh}"
    )
    parts = {
        "quantized weights": _size(nnx.filter_state(split.state, QuantizedParam)),
        "weights": _size(nnx.filter_state(split.state, nnx.Not(QuantizedParam))),
        "KV cache": _size(cache),
    }
    return MemoryPlan(
        title=title,
        parameters=_parameters(shape),
        trained=0,
        parts=_without_empty(parts),
        target=target,
        activations=activations,
    )


def _abstract_state(setup: TrainingSetup, mesh: Mesh) -> tuple[nnx.GraphDef, TrainState, nnx.State]:
    """The result of train.step.init_state with shapes and shardings in the place of arrays."""
    config = setup.config
    optimizer = make_optimizer(config.optimizer, config.steps)
    base = abstract_model(setup.shape, jnp.dtype(config.dtype), setup.quantize)
    model = nnx.eval_shape(lambda base: prepare(base, config), base)
    return init_state(model, optimizer, mesh, ema=config.ema > 0, tower=config.images.trained)


def _training_activations(setup: TrainingSetup, mesh: Mesh, target: CompileTarget) -> int:
    """Bytes of activations of one training step on one device, without its gradients."""
    dtype = compiled_dtype(setup.config.dtype, target)
    config = dataclasses.replace(setup.config, dtype=dtype)
    graphdef, state, frozen = _abstract_state(setup._replace(config=config), mesh)
    optimizer = make_optimizer(config.optimizer, config.steps)
    rows = config.batch_size
    length = config.data.prompt_length + config.loss.num_canvases * config.loss.canvas_size
    where = NamedSharding(mesh, PartitionSpec(BATCH))
    shapes = dict.fromkeys(("prompt_len", "answer_len", "num_canvases"), (rows,))
    shapes["tokens"] = (rows, length)
    batch = {k: jax.ShapeDtypeStruct(v, np.int32, sharding=where) for k, v in shapes.items()}
    if images := config.images.per_row:
        vision = setup.shape.vision
        patches = rows, images, config.images.soft_tokens * vision.pool_size**2
        pixels = (*patches, vision.patch_values)
        batch[PATCHES] = jax.ShapeDtypeStruct(pixels, np.float32, sharding=where)
        batch[POSITIONS] = jax.ShapeDtypeStruct((*patches, 2), np.int32, sharding=where)
    with jax.set_mesh(mesh):
        step = make_train_step(
            graphdef, optimizer, config.loss, 0, config.accumulate, config.ema, like=state
        )
        taken = temporaries(target, step, state, frozen, batch)
    return max(taken - _size(state.params).per_device, 0)  # the plan counts gradients by themselves


def _placed(shapes: Any, where: Any) -> Any:
    """A tree of abstract arrays with the shardings of another tree."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where
    )


def compiled_dtype(dtype: DTypeLike, target: CompileTarget) -> str:
    """The dtype to compile with: float32 for a CPU, whose compiler would widen bfloat16."""
    return "float32" if target == "cpu" else jnp.dtype(dtype).name


def temporaries(target: CompileTarget, program: jax.stages.Wrapped, *args: Any) -> int:
    """Bytes that a program takes on one device beside its arguments.

    These are XLA's temporary arrays and those results that do not overwrite an argument.
    """
    analysis = program.lower(*args).compile(COMPILER_OPTIONS[target]).memory_analysis()
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.temp_size_in_bytes + max(results, 0)


def _size(tree: Any) -> Size:
    """Size of a tree of abstract arrays that have shardings."""
    total = held = 0
    for x in jax.tree.leaves(tree):
        total += x.size * x.dtype.itemsize
        held += math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return Size(total, held)


def _without_empty(parts: dict[str, Size]) -> dict[str, Size]:
    return {name: size for name, size in parts.items() if size.total}


def _count(tree: Any) -> int:
    """Number of elements of all arrays in a tree."""
    return sum(x.size for x in jax.tree.leaves(tree))


def _parameters(shape: ModelConfig) -> int:
    return _count(nnx.state(abstract_model(shape)))


def _dtype_names(dtype: DTypeLike, quantize: Precision | None) -> str:
    name = jnp.dtype(dtype).name
    return f"{quantize} and {name}" if quantize else name
