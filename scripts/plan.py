"""What a run or a generation takes of each device's memory, and whether it fits, before it starts.

    python -m scripts.plan --preset=26b_a4b --context=4096 --gpu=80
    python -m scripts.plan --preset=26b_a4b --context=4096 --quantize=int4 --gpu=18
    python -m scripts.plan --config=configs/sudoku_26b_lora.py --preset=26b_a4b --gpu=80
    python -m scripts.plan --config=configs/sudoku_26b_full.py --preset=26b_a4b --gpu=80 \\
        --target=h100

With --config it plans the training step of that run, else a canvas' denoising behind a full cache.
What is counted, and how, is in train/memory_plan.py. Compiling for h100 takes a plugin and no GPU.
"""

import dataclasses
import sys
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import config_flags

from diffusiongemma import ModelConfig
from diffusiongemma.formats.config_file import CONFIG, read_config
from diffusiongemma.formats.hf import is_hf
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.sharding import MeshConfig
from sample import cli
from train.compile_target import Target
from train.config import RunConfig
from train.memory_plan import plan_generation, plan_training


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
    help = "Quantized weights, as scripts.convert makes them; in training, those LoRA is beside."
    flags.DEFINE_enum("quantize", None, get_args(Precision), help, flag_values=values)
    for name, default, help in (
        ("batch_size", 1, "Rows, without --config."),
        ("context", 4096, "Tokens in the cache, without --config."),
        *((axis, 1, f"Devices along the mesh's {axis}, without --config.") for axis in _AXES),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    flags.DEFINE_float("gpu", None, "Memory of a device in GB, 10^9 bytes.", flag_values=values)
    help = "What to compile for, to know of the activations: a minute and more; none: not at all."
    flags.DEFINE_enum("target", "cpu", ["none", *get_args(Target)], help, flag_values=values)
    return values


_AXES = tuple(f.name for f in dataclasses.fields(MeshConfig))


def main(argv: list[str]) -> int:
    values = define_flags()

    def run() -> None:
        jax.config.update("jax_platforms", "cpu")
        target = None if values.target == "none" else values.target
        if values.config is None:
            mesh = MeshConfig(*(values[axis].value for axis in _AXES))
            jax.config.update("jax_num_cpu_devices", mesh.size)
            plan = plan_generation(
                _shape(values.preset, values.checkpoint, "26b_a4b"),
                mesh,
                jnp.dtype(values.dtype),
                values.batch_size,
                values.context,
                target,
                values.quantize,
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
            plan = plan_training(config, shape, target, values.quantize)
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
