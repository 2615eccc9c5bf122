"""Random checkpoint folders, made without this project's writers, and comparisons."""

import dataclasses
import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma.checkpoint import CheckpointError, load_checkpoint
from diffusiongemma.config import ModelConfig
from diffusiongemma.convert import HF, file_tensors
from diffusiongemma.hf_config import config_to_hf

# Three shapes: the pattern of the release; other ratios everywhere; full layers first and last.
CONFIGS = {
    "six": ModelConfig.preset("tiny"),
    "two": dataclasses.replace(
        ModelConfig.preset("tiny"),
        vocab_size=37,
        width=24,
        layer_types=("sliding", "full"),
        num_heads=6,
        num_kv_heads=3,
        head_dim=10,
        full_num_kv_heads=2,
        full_head_dim=6,
        mlp_dim=20,
        num_experts=5,
        top_k=3,
        expert_dim=12,
    ),
    "three": dataclasses.replace(
        ModelConfig.preset("tiny"),
        vocab_size=37,
        width=15,  # an odd number of two bytes, so that what follows could be misaligned
        layer_types=("full", "sliding", "full"),
        num_kv_heads=4,
        full_num_kv_heads=4,
        num_experts=2,
        top_k=1,
        softcap=20.0,
        norm_eps=1e-5,
    ),
}
# Of matrices, and of vectors: "three" has both.
DTYPES = {
    "six": (np.float32, np.float32),
    "two": (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
    "three": (ml_dtypes.bfloat16, np.float32),
}


def make_folder(folder: Path, name: str) -> Path:
    """A random model of CONFIGS in `folder`; its modes have the same layer scalars."""
    config, (matrix, vector) = CONFIGS[name], DTYPES[name]
    rng = np.random.default_rng(len(name))
    tensors = {}
    for key, tensor in file_tensors(config, HF).items():
        dtype = matrix if len(tensor.shape) > 1 else vector
        tensors[key] = rng.normal(size=tensor.shape).astype(dtype)
    for n in range(config.num_layers):
        scalar = tensors[f"model.decoder.layers.{n}.layer_scalar"]
        tensors[f"model.encoder.language_model.layers.{n}.layer_scalar"] = scalar.copy()
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_to_hf(config)))
    return folder


def assert_same_tensors(one: Path, other: Path) -> None:
    """Both folders hold the same tensors, to the bit."""
    first, second = read_all(one), read_all(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype, key
        assert value.shape == second[key].shape, key
        assert value.tobytes() == second[key].tobytes(), key


def read_all(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder's safetensors files."""
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def mapped_files(folder: Path) -> list[str]:
    """The folder's files that this process has mapped into memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if f"{os.path.realpath(folder)}/" in line]


def weights(model) -> dict[str, np.ndarray]:
    """A model's parameters by path."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): np.asarray(value[...]) for path, value in state}


def assert_same(one, other) -> None:
    """Both models have the same parameters, to the bit."""
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value.dtype == other[key].dtype and value.tobytes() == other[key].tobytes(), key


def refusal(folder: Path, **kwargs) -> str:
    """What load_checkpoint says of a folder that it refuses."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, **kwargs)
    return str(caught.value)
