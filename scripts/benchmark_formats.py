"""Converts a checkpoint of a few GB into every format and back, and measures time and memory.

    python -m scripts.benchmark_formats --dir=/big/disk/new --layers=18

The script writes a random bfloat16 checkpoint in shards (18 layers take 4.4 GB; the disk needs room
for three of them), converts it to each format and back, compares the result to the bit, loads it,
and removes what it wrote. Every step runs in a process of its own. The peak memory of a step is the
kernel's figure (ru_maxrss), which includes mapped files.
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
from diffusiongemma.formats.detect import whole_formats
from diffusiongemma.formats.format import WriteOptions
from diffusiongemma.formats.hf import open_hf, write_hf
from diffusiongemma.formats.tensor_tables import OWN, file_tensors
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
    """Random parameters, each made when it is read. Encode and denoise have equal layer scalars."""
    tensors = file_tensors(config, OWN)
    names = list(tensors)

    def read(path: str) -> np.ndarray:
        seed = names.index(path.replace("encode_scalar", "denoise_scalar"))
        # These are the bits of numbers between 1 and 2: all of them are finite.
        bits = np.random.default_rng(seed).integers(
            0x3F80, 0x4000, tensors[path].shape, dtype=np.uint16
        )
        return bits.view(ml_dtypes.bfloat16)

    dtype = np.dtype(ml_dtypes.bfloat16)
    return Weights("random weights", config, dict.fromkeys(names, dtype), read)


def step(name: str, *command: str) -> None:
    """Runs Python in a process of its own and prints its time and its peak memory.

    Args:
      name: what the step is called in the output.
      command: the arguments of Python.

    Raises:
      ValueError: the process failed.
    """
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
            raise ValueError(f"{other}: {name} has changed on the way")


def measure(root: Path, layers: int, shard_bytes: int) -> None:
    """Writes a checkpoint into a new folder, takes it through every format, and prints each step.

    Args:
      root: the folder, which is removed at the end.
      layers: number of layers of the model.
      shard_bytes: the most bytes of weights in one file.

    Raises:
      ValueError: a step failed, or a tensor changed on the way.
    """
    config = dataclasses.replace(SHAPE, layer_types=five_to_one(layers))
    root.mkdir(parents=True)
    try:
        (root / "hf").mkdir()
        write_hf(root / "hf", random_weights(config), WriteOptions(shard_bytes))
        sizes = [f.stat().st_size for f in (root / "hf").iterdir()]
        largest = max(np.prod(t.shape) * 2 for t in file_tensors(config, OWN).values())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(
            f"{sum(sizes) / 1e9:.2f} GB in {len(sizes) - 2} shards, the largest tensor "
            f"{largest / 1e9:.2f} GB; written with a peak of {peak:.2f} GB"
        )
        step("imports alone", *CONVERT, "--help")
        for format in whole_formats():
            size = f"--shard_bytes={shard_bytes}"
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


def main(argv: list[str]) -> int:
    values = flags.FlagValues()
    flags.DEFINE_string(
        "dir", None, "Folder to work in: it is made, and removed at the end.", flag_values=values
    )
    flags.DEFINE_integer(
        "layers", 18, "Number of layers, a multiple of 6.", lower_bound=6, flag_values=values
    )
    flags.DEFINE_integer(
        "shard_bytes",
        1_000_000_000,
        "The most bytes of weights in one file.",
        lower_bound=1,
        flag_values=values,
    )

    def run() -> None:
        if not values.dir:
            raise ValueError("--dir=PATH is needed")
        measure(Path(values.dir), values.layers, values.shard_bytes)

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
