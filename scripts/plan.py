"""What a run or a generation takes of each device's memory, and whether it fits, before it starts.

    python -m scripts.plan --preset=26b_a4b --context=4096 --gpu=80
    python -m scripts.plan --config=configs/sudoku_26b_lora.py --preset=26b_a4b --gpu=80
    python -m scripts.plan --config=configs/sudoku_26b_full.py --preset=26b_a4b \\
        --config.mesh.fsdp=8 --gpu=80

With --config it plans the training step of that run, else a canvas' denoising behind a full cache.
Nothing of the model's size is allocated: weights, gradients, optimizer and cache are counted from
their shapes and the table of sharding.py, and the temporaries are XLA's own figure for the compiled
program. It is compiled for virtual CPU devices, whose programs take more temporary memory than a
GPU's: they keep float32 copies of bfloat16 operands, and have no fused kernels. --nocompile leaves
them out.
"""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import config_flags

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.hf_checkpoint import CONFIG, is_hf, read_config
from diffusiongemma.sharding import BATCH, MeshConfig, state_sharding
from sample import cli
from sample.sampler import denoise_canvas
from sample.step import SamplerConfig
from train.config import RunConfig
from train.loop import prepare
from train.optimizer import make_optimizer
from train.step import init_state, make_train_step

GB = 10**9


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes of each kind, in all and on the fullest device.

    Attributes:
      title: what is planned.
      parameters: how many the model has.
      trained: how many of them change.
      parts: name -> (bytes in all, bytes on a device), what is in memory between steps.
      temporaries: bytes on a device while a step runs, gradients and activations; None: unknown.
      gradients: bytes on a device, a part of the temporaries.
    """

    title: str
    parameters: int
    trained: int
    parts: dict[str, tuple[int, int]]
    temporaries: int | None
    gradients: int = 0

    @property
    def a_device(self) -> int:
        return sum(part[1] for part in self.parts.values()) + (self.temporaries or self.gradients)

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
        known = "unknown" if self.temporaries is None else f"{self.temporaries / GB:.2f}"
        lines.append(f"{'temporaries of a step':32}{'':10}{known:>10}")
        if self.gradients:
            lines.append(f"{'  of them gradients':32}{'':10}{self.gradients / GB:10.2f}")
        lines.append(f"{'sum':32}{'':10}{self.a_device / GB:10.2f}")
        if gpu is not None:
            fits = "fits" if self.a_device <= gpu * GB else "does not fit"
            lines.append(f"\nIt {fits} a device of {gpu:g} GB.")
        return "\n".join(lines)


def plan_training(config: RunConfig, shape: ModelConfig, compile: bool) -> Plan:
    """A step of a run. Raises ValueError if the mesh does not divide the model."""
    config.mesh.check(shape, config.batch_size)
    mesh = config.mesh.make()
    dtype = jnp.dtype(config.dtype)

    with jax.set_mesh(mesh):
        model = nnx.eval_shape(
            lambda: prepare(DiffusionGemma(shape, rngs=nnx.Rngs(0), dtype=dtype), config)
        )
        optimizer = make_optimizer(config.optimizer, config.steps)
        graphdef, state, frozen = init_state(model, optimizer, mesh, ema=config.ema > 0)
        temporaries = None
        if compile:
            step = make_train_step(
                graphdef, optimizer, config.loss, 0, config.accumulate, config.ema, like=state
            )
            temporaries = _temporaries(step, state, frozen, _batch(config, mesh))
    parts = {
        "frozen weights": _bytes(frozen),
        "trained weights": _bytes(state.params),
        "optimizer": _bytes(state.opt_state),
        "running mean": _bytes(state.ema),
    }
    loss = config.loss
    title = (
        f"A training step of {config.batch_size} rows of {config.data.prompt_length} + "
        f"{loss.num_canvases} x {loss.canvas_size} tokens, {loss.noise_draws} noise draws, "
        f"{config.accumulate} part(s), remat {'on' if config.remat else 'off'}, {config.dtype}; "
        f"mesh {config.mesh}"
    )
    return Plan(
        title,
        _count(frozen) + _count(state.params),
        _count(state.params),
        {name: part for name, part in parts.items() if part[0]},
        temporaries,
        _bytes(state.params)[1] * (4 // dtype.itemsize if config.accumulate > 1 else 1),
    )


def plan_generation(
    shape: ModelConfig, mesh_config: MeshConfig, dtype, batch_size: int, context: int, compile: bool
) -> Plan:
    """Denoising a canvas behind `context` tokens. Raises ValueError as plan_training."""
    mesh_config.check(shape)
    mesh = mesh_config.make()
    canvas_size = shape.canvas_size
    sampler = SamplerConfig(canvas_size=canvas_size, stop_ids=shape.stop_ids)
    with jax.set_mesh(mesh):
        model = nnx.eval_shape(lambda: DiffusionGemma(shape, rngs=nnx.Rngs(0), dtype=dtype))
        graphdef, shapes = nnx.split(model)
        state = _placed(shapes, state_sharding(shapes, mesh))
        rows = BATCH if batch_size % (mesh_config.data * mesh_config.fsdp) == 0 else None
        by_row = NamedSharding(mesh, PartitionSpec(rows))
        cache = jax.eval_shape(lambda: model.init_cache(batch_size, context))
        cache = _placed(cache, jax.tree.map(lambda _: by_row, cache))
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch_size))
        temporaries = None
        if compile:
            done = jax.ShapeDtypeStruct((batch_size,), bool)
            temporaries = _temporaries(
                denoise_canvas, graphdef, state, cache, keys, done, 0, canvas_size, sampler, None
            )
    title = (
        f"Denoising {batch_size} x {canvas_size} tokens behind {context}, {jnp.dtype(dtype).name}; "
        f"mesh {mesh_config}"
    )
    parts = {"weights": _bytes(state), "KV cache": _bytes(cache)}
    return Plan(title, _count(state), 0, parts, temporaries)


def _batch(config: RunConfig, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    rows = config.batch_size
    length = config.data.prompt_length + config.loss.num_canvases * config.loss.canvas_size
    where = NamedSharding(mesh, PartitionSpec(BATCH))
    shapes = {"tokens": (rows, length), "prompt_len": (rows,), "num_canvases": (rows,)}
    return {k: jax.ShapeDtypeStruct(v, np.int32, sharding=where) for k, v in shapes.items()}


def _placed(shapes: Any, where: Any) -> Any:
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where
    )


def _temporaries(program, *args) -> int:
    """Bytes on a device beside the arguments: results that are not written over them, and XLA's."""
    analysis = program.lower(*args).compile().memory_analysis()
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


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "A run's file: plans its step.", values)
    flags.DEFINE_string(
        "preset", None, "The model's shape; default: of the run's config.", flag_values=values
    )
    flags.DEFINE_string("checkpoint", None, "A folder whose shape it is.", flag_values=values)
    flags.DEFINE_enum(
        "dtype", "bfloat16", ["bfloat16", "float32"], "Without --config.", flag_values=values
    )
    for name, default, help in (
        ("batch_size", 1, "Rows, without --config."),
        ("context", 4096, "Tokens in the cache, without --config."),
        *((axis, 1, f"Devices along the mesh's {axis}, without --config.") for axis in _AXES),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    flags.DEFINE_float("gpu", None, "Memory of a device in GB, 10^9 bytes.", flag_values=values)
    flags.DEFINE_boolean("compile", True, "Compile, for the temporaries.", flag_values=values)
    return values


_AXES = tuple(f.name for f in dataclasses.fields(MeshConfig))


def main(argv: list[str]) -> int:
    values = define_flags()

    def run() -> None:
        jax.config.update("jax_platforms", "cpu")
        if values.config is None:
            mesh = MeshConfig(*(values[axis].value for axis in _AXES))
            jax.config.update("jax_num_cpu_devices", mesh.size)
            plan = plan_generation(
                _shape(values.preset, values.checkpoint, "26b_a4b"),
                mesh,
                jnp.dtype(values.dtype),
                values.batch_size,
                values.context,
                values.compile,
            )
        else:
            fields = values.config.to_dict()
            shape = _shape(
                values.preset, values.checkpoint or fields.get("init"), fields.get("preset")
            )
            # Where the weights come from does not matter here, and need not be there yet.
            config = RunConfig.from_dict(fields | {"init": "", "preset": "tiny", "overrides": {}})
            jax.config.update("jax_num_cpu_devices", config.mesh.size)
            if not values.preset and not values.checkpoint and not fields.get("init"):
                shape = dataclasses.replace(shape, **fields.get("overrides", {}))
            plan = plan_training(config, shape, values.compile)
        print(plan.table(values.gpu))

    return cli.run(values, run, argv, __doc__)


def _shape(preset: str | None, folder: str | None, default: str | None) -> ModelConfig:
    if preset:
        return ModelConfig.preset(preset)
    if folder:
        if not is_hf(Path(folder)):
            raise ValueError(f"{folder}: no folder with a {CONFIG}; --preset names a shape instead")
        return read_config(Path(folder) / CONFIG)
    return ModelConfig.preset(default or "")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
