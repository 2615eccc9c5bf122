"""Plans the memory of a training step or a generation on each device, before it starts.

    python -m scripts.plan --preset=26b_a4b --context=4096 --gpu=80
    python -m scripts.plan --preset=26b_a4b --context=4096 --quantize=int4 --gpu=18
    python -m scripts.plan --config=configs/sudoku_26b_lora.py --preset=26b_a4b --gpu=80
    python -m scripts.plan --config=configs/sudoku_26b_full.py --preset=26b_a4b --gpu=80 \\
        --target=h100

    python -m scripts.plan --preset=26b_a4b --image_tokens=280

With --config it plans the training step of that run. Without --config it plans the denoising of a
canvas behind a full KV cache, and with --image_tokens also the reading of one image.
train/memory_plan.py and train/image_plan.py say what is counted and how. --target=h100 needs a
compiler plugin, and no GPU.
"""

import dataclasses
import sys
from typing import get_args

import jax
import jax.numpy as jnp
from absl import flags

from diffusiongemma import ModelConfig
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.sharding import MeshConfig
from sample import cli
from sample.checkpoint import Checkpoint
from sample.config_file import config_fields
from train.compile_target import CompileTarget
from train.config import RunConfig
from train.image_plan import ImagePlan, plan_image
from train.main import define_config
from train.memory_plan import (
    GenerationSetup,
    MemoryPlan,
    TrainingSetup,
    plan_generation,
    plan_training,
)

AXES = tuple(f.name for f in dataclasses.fields(MeshConfig))
DEFAULT_PRESET = "26b_a4b"


def define_flags(argv: list[str]) -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    define_config(values, argv)
    help = "Model shape by the name of a preset. Default: that of --config, else 26b_a4b."
    flags.DEFINE_string("preset", None, help, flag_values=values)
    help = "Folder in the released layout; its config.json gives the model shape."
    flags.DEFINE_string("checkpoint", None, help, flag_values=values)
    dtypes = ["bfloat16", "float32"]
    help = "Dtype of the weights that are not quantized. Only without --config."
    flags.DEFINE_enum("dtype", "bfloat16", dtypes, help, flag_values=values)
    help = (
        "Precision of quantized weights, as scripts.convert writes them. With --config, they are "
        "the frozen weights beside the LoRA factors."
    )
    flags.DEFINE_enum("quantize", None, get_args(Precision), help, flag_values=values)
    for name, default, help in (
        ("batch_size", 1, "Number of rows. Only without --config."),
        ("context", 4096, "Number of tokens in the KV cache. Only without --config."),
        *(
            (axis, 1, f"Devices along the mesh axis {axis}. Only without --config.")
            for axis in AXES
        ),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    help = (
        "Number of soft tokens of an image. Then the reading of this image is planned too: its "
        "arithmetic and its memory. Only without --config."
    )
    flags.DEFINE_integer("image_tokens", None, help, lower_bound=1, flag_values=values)
    help = "Memory of one device in GB (10^9 bytes). The plan then says whether it fits."
    flags.DEFINE_float("gpu", None, help, lower_bound=0, flag_values=values)
    help = (
        "Device to compile for, so that the memory of activations is known; this takes a minute "
        "or more. With none, nothing is compiled and activations stay unknown."
    )
    targets = ["none", *get_args(CompileTarget)]
    flags.DEFINE_enum("target", "cpu", targets, help, flag_values=values)
    return values


def make_plan(values: flags.FlagValues) -> MemoryPlan:
    """The plan that the flags ask for.

    Raises:
      ValueError, OSError: a shape, config or mesh that cannot be used.
    """
    target = None if values.target == "none" else values.target
    if values.config is None:
        mesh = mesh_of(values)
        use_cpus(mesh)
        setup = GenerationSetup(
            shape=model_shape(values.preset, values.checkpoint, DEFAULT_PRESET),
            mesh=mesh,
            dtype=jnp.dtype(values.dtype),
            batch_size=values.batch_size,
            context=values.context,
            quantize=values.quantize,
        )
        return plan_generation(setup, target)
    fields = config_fields(values)
    folder = values.checkpoint or fields.get("init")
    shape = model_shape(values.preset, folder, fields.get("preset"))
    if not values.preset and not folder:
        shape = shape.with_fields(fields.get("overrides", {}))
    # The folder of the initial weights need not be there yet.
    config = RunConfig.from_dict(fields | {"init": "", "preset": "tiny", "overrides": {}})
    use_cpus(config.mesh)
    return plan_training(TrainingSetup(config, shape, values.quantize), target)


def make_image_plan(values: flags.FlagValues) -> ImagePlan:
    """The plan of reading an image that the flags ask for.

    Raises:
      ValueError: there is a training config too, or the model has no vision tower.
    """
    if values.config is not None:
        raise ValueError("--image_tokens plans no training: leave out --config")
    target = None if values.target == "none" else values.target
    use_cpus(mesh_of(values))  # for make_plan: once JAX has started, their number stays
    shape = model_shape(values.preset, values.checkpoint, DEFAULT_PRESET)
    return plan_image(shape, values.image_tokens, jnp.dtype(values.dtype), target)


def mesh_of(values: flags.FlagValues) -> MeshConfig:
    """The mesh that the flags ask for, without --config."""
    return MeshConfig(*(values[axis].value for axis in AXES))


def use_cpus(mesh: MeshConfig) -> None:
    """Makes JAX start with as many CPU devices as the mesh has."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", mesh.size)


def model_shape(preset: str | None, folder: str | None, default: str | None) -> ModelConfig:
    """The shape of a preset, else that of a folder, else that of the default preset."""
    if preset:
        return ModelConfig.preset(preset)
    if folder:
        return Checkpoint.open(folder).config
    return ModelConfig.preset(default or "")


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = define_flags(argv)

    def run() -> None:
        image = None if values.image_tokens is None else make_image_plan(values)
        print(make_plan(values).table(values.gpu))
        if image is not None:
            print(f"\n{image.table()}")

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
