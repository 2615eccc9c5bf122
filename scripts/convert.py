"""Converts a checkpoint into another format, tensor by tensor.

    python -m scripts.convert --from=runs/mine --to=exported --format=hf --dtype=bfloat16
    python -m scripts.convert --from=DIR --to=small --format=orbax --quantize=int4

The format of --from is recognised by what is in the folder (docs/FORMATS.md). LoRA factors are
merged into their base, or written alone with --format=peft. The small files beside the weights are
copied: the tokenizer, the chat template, processors, the licence and the like. --to must be a new
or an empty folder; it appears whole or not at all.
"""

import sys
from typing import get_args

from absl import flags, logging

from diffusiongemma.formats import detect
from diffusiongemma.formats.format import SHARD_BYTES
from diffusiongemma.formats.load_save import convert_checkpoint
from diffusiongemma.ops.quantized import Precision
from sample import cli


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()

    def text(name: str, meaning: str) -> None:
        flags.DEFINE_string(name, None, meaning, flag_values=values)

    def choice(name: str, known: list[str], meaning: str) -> None:
        flags.DEFINE_enum(name, None, known, meaning, flag_values=values)

    text("from", "Folder of the checkpoint to read.")
    text("to", "Folder to write: new or empty.")
    choice("format", detect.written_formats(), f"Format to write: {detect.descriptions()}.")
    text(
        "dtype",
        "Dtype of the tensors written: float32, bfloat16 or float16. The default keeps the dtype "
        "of each tensor. Not for peft.",
    )
    choice(
        "quantize",
        list(get_args(Precision)),
        f"Quantizes the matrices; for {' or '.join(detect.quantized_formats())}. int8: all of them "
        "in int8. int4: the experts in int4 and the others in int8.",
    )
    text(
        "config",
        "Shape of a model in Google's layout without a config.json: the name of a preset, or the "
        "path of a config.json.",
    )
    text("base", "Base of LoRA factors. The default is the folder that the factors name.")
    text(
        "vision",
        "A folder with the same text model, whose vision tower the result gets. The default is the "
        "source, or the base of LoRA factors. Not for peft.",
    )
    flags.DEFINE_integer(
        "shard_bytes",
        SHARD_BYTES,
        "For hf: the most bytes of weights in one file.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "flat",
        False,
        "For google: write the flat form, with keys like transformer/layer_0/attn/q_einsum.",
        flag_values=values,
    )
    return values


def main(argv: list[str]) -> int:
    values = define_flags()

    def run() -> None:
        source, target = values["from"].value, values.to
        if not source or not target or not values.format:
            formats = "|".join(detect.written_formats())
            raise ValueError(f"--from=PATH, --to=PATH and --format={formats} are needed")
        logging.set_verbosity(logging.FATAL)  # Orbax logs every file, and every error it raises
        convert_checkpoint(
            source,
            target,
            values.format,
            dtype=values.dtype,
            config=values.config,
            shard_bytes=values.shard_bytes,
            flat=values.flat,
            base=values.base,
            quantize=values.quantize,
            vision=values.vision,
        )
        print(f"wrote {target}")

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
