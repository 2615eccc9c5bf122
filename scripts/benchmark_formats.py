"""A checkpoint of a few GB through every format and back, with the peak memory of each step.

    python -m scripts.benchmark_formats --dir=/big/disk/new --layers=18

Writes a random bfloat16 checkpoint in shards (18 layers: 4.4 GB; the disk needs room for three),
converts it, compares the results with it to the bit, loads it, and removes what it wrote. Every
step is a process of its own, and its peak is the kernel's (ru_maxrss), files mapped included.
"""

import dataclasses
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
from absl import flags

from diffusiongemma.config import ModelConfig, five_to_one
from diffusiongemma.formats.format import WriteOptions
from diffusiongemma.formats.hf import open_hf, write_hf
from diffusiongemma.formats.tensor_tables import ORBAX, file_tensors
from diffusiongemma.formats.weights import Weights
from sample import cli

SHAPE = dataclasses.replace(
    ModelConfig.preset("26b_a4b"),
    vocab_size=65_536,
    width=1024,
    mlp_dim=1024,
    num_experts=64,
    expert_dim=512,
)
CONVERT = ("-m", "scripts.convert")
LOAD = "import sys, diffusiongemma as d; d.load_checkpoint(sys.argv[1])"


def random_weights(config: ModelConfig) -> Weights:
    """Random parameters, each made when it is read; both modes' layer scalars are equal."""
    tensors = file_tensors(config, ORBAX)
    names = list(tensors)

    def read(path: str) -> np.ndarray:
        seed = names.index(path.replace("encode_scalar", "denoise_scalar"))
        # The bits of numbers between 1 and 2: random to the last, and finite.
        bits = np.random.default_rng(seed).integers(
            0x3F80, 0x4000, tensors[path].shape, dtype=np.uint16
        )
        return bits.view(ml_dtypes.bfloat16)

    dtype = np.dtype(ml_dtypes.bfloat16)
    return Weights("random weights", config, dict.fromkeys(names, dtype), read)


def step(name: str, *command: str) -> None:
    """Runs Python in a process of its own and prints its time and its peak."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ValueError(f"{name} failed")
    seconds = time.monotonic() - started
    print(f"{name:24} {seconds:7.1f} s   peak {usage.ru_maxrss * 1024 / 1e9:6.2f} GB", flush=True)


def compare(one: Path, other: Path) -> None:
    """Raises ValueError unless both folders hold the same tensors, to the bit."""
    first, second = open_hf(one), open_hf(other)
    for name in first.tensors:
        a, b = first.read(name), second.read(name)
        if a.dtype != b.dtype or not np.array_equal(a.view(np.uint16), b.view(np.uint16)):
            raise ValueError(f"{other}: {name} has changed")


def main(argv: list[str]) -> int:
    values = flags.FlagValues()
    flags.DEFINE_string("dir", None, "A folder to make, and remove.", flag_values=values)
    flags.DEFINE_integer("layers", 18, "Of the model, a multiple of 6.", 6, flag_values=values)
    flags.DEFINE_integer("shard_bytes", 1_000_000_000, "A file's.", 1, flag_values=values)

    def run() -> None:
        if not values.dir:
            raise ValueError("--dir=PATH is needed")
        root = Path(values.dir)
        config = dataclasses.replace(SHAPE, layer_types=five_to_one(values.layers))
        root.mkdir(parents=True)
        try:
            (root / "hf").mkdir()
            write_hf(root / "hf", random_weights(config), WriteOptions(values.shard_bytes))
            sizes = [f.stat().st_size for f in (root / "hf").iterdir()]
            largest = max(np.prod(t.shape) * 2 for t in file_tensors(config, ORBAX).values())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            print(
                f"{sum(sizes) / 1e9:.2f} GB in {len(sizes) - 2} shards, the largest tensor "
                f"{largest / 1e9:.2f} GB; written with a peak of {peak:.2f} GB"
            )
            step("imports alone", "-m", "scripts.convert", "--help")
            for format in ("hf", "google", "orbax"):
                size = f"--shard_bytes={values.shard_bytes}"
                other, back = f"--to={root / 'other'}", f"--to={root / 'back'}"
                there = (f"--from={root / 'hf'}", other, f"--format={format}", size)
                step(f"hf -> {format}", *CONVERT, *there)
                again = (f"--from={root / 'other'}", back, "--format=hf", size)
                step(f"{format} -> hf", *CONVERT, *again)
                compare(root / "hf", root / "back")
                shutil.rmtree(root / "other")
                shutil.rmtree(root / "back")
            step("loaded (with the model)", "-c", LOAD, str(root / "hf"))
            print("not a bit has changed")
        finally:
            shutil.rmtree(root)

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
