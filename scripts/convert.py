"""Converts a checkpoint into another format, tensor by tensor.

    python -m scripts.convert --from=runs/mine --to=exported --format=hf --dtype=bfloat16
    python -m scripts.convert --from=DIR --to=small --format=orbax --quantize=int4

What --from is shows in its folder: the released layout, Google's, this project's, a run's workdir,
or an adapter of PEFT. LoRA factors are merged into their base, or written alone as peft. The
tokenizer, the chat template and generation_config.json come along. --to must be new or empty; it
appears whole or not at all.
"""

import sys
from typing import get_args

from absl import flags, logging

from diffusiongemma.formats.hf import SHARD_BYTES
from diffusiongemma.formats.load_save import Target, convert_checkpoint
from diffusiongemma.ops.quantized import Precision
from sample import cli


def main(argv: list[str]) -> int:
    values = flags.FlagValues()

    def text(name: str, meaning: str) -> None:
        flags.DEFINE_string(name, None, meaning, flag_values=values)

    text("from", "The checkpoint's folder.")
    text("to", "A folder, new or empty.")
    flags.DEFINE_enum("format", None, get_args(Target), "To be written.", flag_values=values)
    text("dtype", "Of the tensors written: float32, bfloat16, float16; by default each one's own.")
    flags.DEFINE_enum(
        "quantize",
        None,
        get_args(Precision),
        "Of orbax: the matrices, all in int8, or the experts' in int4.",
        flag_values=values,
    )
    text("config", "For Google's layout without config.json: a preset's name, or the file.")
    text("base", "Of LoRA factors; by default the folder that they name.")
    flags.DEFINE_integer(
        "shard_bytes", SHARD_BYTES, "Of hf: the most weights in a file.", 1, flag_values=values
    )
    flags.DEFINE_bool(
        "flat", False, "Of google: keys as transformer/layer_0/attn/q_einsum.", flag_values=values
    )

    def run() -> None:
        source, target = values["from"].value, values.to
        if not source or not target or not values.format:
            formats = "|".join(get_args(Target))
            raise ValueError(f"--from=PATH, --to=PATH and --format={formats} are needed")
        logging.set_verbosity(logging.FATAL)  # orbax logs every file, and what it raises
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
        )
        print(f"wrote {target}")

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
