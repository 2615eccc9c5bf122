"""Makes a model deeper, so that it can learn more. Its answers stay the same at first.

    python -m scripts.grow --from=checkpoints/sudoku_long --to=runs/deep --layers=12

New layers follow the old ones. Each is a copy of an old one, in their order, but adds nothing: the
scales of the norms behind its attention and behind its MLPs are 0. Training raises them. To begin
a new layer as a path of zero strength is the idea of ReZero (arXiv 2003.04887), and to stack copies
of trained layers that of progressive stacking (Gong et al., ICML 2019).

--to must be a new or an empty folder; it appears whole or not at all.
"""

import dataclasses
import sys
from pathlib import Path

import jax.numpy as jnp
from absl import flags
from flax import nnx

from diffusiongemma import DiffusionGemma
from diffusiongemma.formats.atomic_folder import staged
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.companions import copy_companions
from diffusiongemma.formats.load_save import load_checkpoint, save_checkpoint
from sample import cli


def grow(model: DiffusionGemma, num_layers: int) -> None:
    """Appends layers to a model, in place. Its outputs stay the same.

    Args:
      model: a model without LoRA factors, not quantized.
      num_layers: the number of layers afterwards, a multiple of today's, so that the pattern of
        sliding and full layers goes on.

    Raises:
      ValueError: num_layers is no larger multiple.
    """
    old = model.config.num_layers
    if num_layers <= old or num_layers % old:
        raise ValueError(f"{num_layers} layers: take a multiple of the model's {old}, above {old}")
    for i in range(old, num_layers):
        layer = nnx.clone(model.layers[i % old])
        for norm in (layer.post_attention_norm, layer.post_ffw_norm):
            norm.scale[...] = jnp.zeros_like(norm.scale[...])
        for scalar in (layer.encode_scalar, layer.denoise_scalar):  # they multiply the residual too
            scalar[...] = jnp.ones_like(scalar[...])
        model.layers.append(layer)
    layer_types = model.config.layer_types * (num_layers // old)
    model.config = dataclasses.replace(model.config, layer_types=layer_types)


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("from", None, "Folder of the model.", flag_values=values)
    flags.DEFINE_string("to", None, "Folder to write: new or empty.", flag_values=values)
    flags.DEFINE_integer(
        "layers", None, "Number of layers of the new model.", lower_bound=1, flag_values=values
    )
    return values


def main(argv: list[str]) -> int:
    values = define_flags()

    def run() -> None:
        source, target, layers = values["from"].value, values.to, values.layers
        if not source or not target or not layers:
            raise ValueError("--from=DIR, --to=DIR and --layers=N are needed")
        with staged(Path(target)) as temporary:
            model = load_checkpoint(source)
            if nnx.state(model, nnx.LoRAParam):
                raise CheckpointError(f"{source}: holds LoRA factors: merge them first, by convert")
            grow(model, layers)
            save_checkpoint(model, temporary)
            written = {file.name for file in temporary.iterdir()}
            copy_companions(Path(source), temporary, never=written)
        print(f"wrote {target}: {layers} layers")

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
