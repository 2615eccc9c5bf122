"""Measures a denoising step: its time, the least time that the machine allows, and its parts.

    python -m scripts.benchmark --preset=small --out=DIR
    python -m scripts.benchmark --preset=26b_a4b --dtype=bfloat16 --context=4096 --out=DIR
    python -m scripts.benchmark --preset=26b_a4b --quantize=int8 --context=4096 --out=DIR
    python -m scripts.benchmark --preset=medium --peer=transformers --peer_python=PYTHON --train
    python -m scripts.benchmark --preset=medium --experts=8,32,128

Weights are random and are made on the device. The time of a step is that of the sampler's own
compiled loop, divided by its steps. The parts are timed as programs of their own (step_parts.py).
Figures are medians of --repeats measurements, with the fastest and the slowest. Compile times are
those without a compile cache. --peer runs transformers on the same weights, in turn with this
project. --out gets benchmark.json and benchmark.png.
"""

import json
import sys
from pathlib import Path

from absl import flags

from diffusiongemma import ModelConfig
from files.whole_file import write_files
from sample import cli
from scripts.benchmark.figures import Extras, Subject, benchmark
from scripts.benchmark.flags import define_flags
from scripts.benchmark.report import plot, table
from scripts.benchmark.timing import Settings


def run(values: flags.FlagValues) -> None:
    """Makes the measurements, prints them and writes them; raises ValueError for wrong flags."""
    config = ModelConfig.preset(values.preset)
    if values.peer and not values.peer_python:
        raise ValueError("--peer needs --peer_python=PATH, a Python with torch and transformers")
    if values.peer and values.quantize:
        raise ValueError("--peer has no --quantize: transformers would read other weights")
    if values.train and not values.peer:
        raise ValueError("--train needs --peer")
    if not all(n.isdecimal() and int(n) >= config.top_k for n in values.experts):
        raise ValueError(f"--experts takes whole numbers from top_k, {config.top_k}, up")
    if values.out:
        cli.check_out(Path(values.out))
    subject = Subject(
        values.preset,
        config,
        values.dtype,
        values.quantize,
        values.batch,
        values.context,
        values.backend,
    )
    settings = Settings(values.steps, values.prefill_chunk, values.repeats)
    extras = Extras(
        parts=values.parts,
        lora=values.lora,
        experts=[int(n) for n in values.experts],
        peer_python=values.peer_python if values.peer else None,
        train=values.train,
    )
    found = benchmark(subject, settings, extras, values.tpf)
    print(table(found))
    if values.out:
        files = {"benchmark.json": json.dumps(found, indent=1).encode() + b"\n"}
        write_files(Path(values.out), files | {"benchmark.png": plot(found)})


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = define_flags()
    return cli.run(values, lambda: run(values), argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
