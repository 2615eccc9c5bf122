"""What a checkpoint is, in a few characters, so that its answers are not taken for another's."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.text.tokenizer import DEFAULT_PATH
from diffusiongemma.formats import orbax
from sample.checkpoint import TOKENIZER, Checkpoint

LENGTH = 16  # hexadecimal digits of a fingerprint
# Files beside the weights that decide which tokens a prompt becomes.
TEXT_FILES = ("chat_template.jinja", "tokenizer_config.json")


class CheckpointId(NamedTuple):
    """Which checkpoint an answer is of.

    Attributes:
      folder: the checkpoint as it was named on the command line.
      fingerprint: a hash of what it holds (`fingerprint`); "" if nobody asked.
    """

    folder: str = ""
    fingerprint: str = ""


UNNAMED = CheckpointId()


def fingerprint(
    checkpoint: Checkpoint, dtype: str | None = None, tokenizer: str | None = None
) -> str:
    """A hash of all that a checkpoint's answers depend on.

    It covers the config, the names, the dtypes and the first few elements of all tensors, all LoRA
    factors, how the matrices are quantized, the number of a training run's step, the tokenizer and
    the chat template. It does not cover where the folder is. A small part of each tensor is read.

    The fingerprint of formats/adapter.py is of no use here. It rounds to bfloat16, because a base
    stays the same base in another dtype, and it leaves out LoRA factors and quantization.

    Args:
      checkpoint: the checkpoint.
      dtype: the dtype that the weights are cast to; None if they stay as they are stored.
      tokenizer: a tokenizer.json or its folder, if it is used in place of the checkpoint's.

    Raises:
      CheckpointError, OSError: the checkpoint cannot be read.
    """
    found = hashlib.sha256(json.dumps(["dtype", dtype]).encode())
    for part in _parts(checkpoint):
        found.update(f"{len(part)} ".encode() + part)  # so that no two lists of parts join alike
    named = checkpoint.companions
    own = Path(tokenizer) if tokenizer else named.get(TOKENIZER, DEFAULT_PATH)
    own = own / TOKENIZER if own.is_dir() else own
    for file in (own, *(named[name] for name in TEXT_FILES if name in named)):
        with open(file, "rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:LENGTH]


def _parts(checkpoint: Checkpoint) -> Iterator[bytes]:
    """The parts of a checkpoint's weights, in an order that its format does not change."""
    stored, adapter = checkpoint.stored, checkpoint.adapter
    yield json.dumps(dataclasses.asdict(checkpoint.config)).encode()
    yield repr(stored.quantized and stored.quantized.precision).encode()
    if adapter is None and orbax.is_run(checkpoint.folder):
        yield stored.folder.name.encode()  # the step, because some weights hardly move in one
    found = {}
    for name, tensor in stored.tensors.items():
        corner = tensor.corner
        read = stored.read(name, tuple(map(slice, corner.shape)))
        found |= {path: _described(path, value) for path, value in corner.to_params(read).items()}
    yield from (found[path] for path in sorted(found))
    if adapter is not None:
        yield repr((adapter.rank, adapter.alpha, str(adapter.dtype))).encode()
        for path in sorted(adapter.weights.dtypes):
            yield _described(path, adapter.weights.read(path))


def _described(path: str, value: np.ndarray) -> bytes:
    return f"{path} {value.dtype} {value.shape} ".encode() + value.tobytes()
