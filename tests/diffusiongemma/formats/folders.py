"""Checkpoint folders made without this project's writers, and comparisons of what is in them."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from numpy.typing import DTypeLike
from safetensors.numpy import load_file, save_file

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.hf_config import config_to_hf
from diffusiongemma.formats.load_save import load_checkpoint
from diffusiongemma.formats.tensor_tables import HF, file_tensors
from diffusiongemma.formats.vision_tables import HF_PREFIXES
from diffusiongemma.transformer import DiffusionGemma
from diffusiongemma.vision.config import VisionConfig

GOLDEN = Path(__file__).parents[2] / "golden"

# Three shapes: the layers of the release; other ratios everywhere; full layers first and last.
CONFIGS = {
    "six": ModelConfig.preset("tiny"),
    "two": dataclasses.replace(
        ModelConfig.preset("tiny"),
        vocab_size=37,
        stop_ids=(1, 30),
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
        stop_ids=(1, 30),
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
# A tower that has all parameters that a tower can have.
TOWER = VisionConfig(
    width=6,
    num_layers=2,
    num_heads=3,
    num_kv_heads=1,
    head_dim=4,
    mlp_dim=5,
    num_places=7,
    patch_size=1,
    pool_size=2,
    rope_theta=50.0,
    norm_eps=1e-5,
    clipped=True,
    standardize=True,
    bidirectional=False,
    image_id=31,
    begin_image_id=32,
    end_image_id=33,
)
# The dtypes of matrices and of vectors.
DTYPES = {
    "six": (np.float32, np.float32),
    "two": (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
    "three": (ml_dtypes.bfloat16, np.float32),
}


def make_folder(folder: Path, name: str) -> Path:
    """Writes a random model of CONFIGS in the released layout, and returns the folder."""
    return write_random(folder, CONFIGS[name], *DTYPES[name], seed=len(name))


def write_random(
    folder: Path,
    config: ModelConfig,
    matrix: DTypeLike = np.float32,
    vector: DTypeLike = np.float32,
    seed: int = 0,
) -> Path:
    """Writes a random model in the released layout, and returns the folder.

    Encode and denoise have the same layer scalars.

    Args:
      folder: a new folder.
      config: the shape of the model.
      matrix: dtype of matrices.
      vector: dtype of vectors.
      seed: random seed.
    """
    rng = np.random.default_rng(seed)
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


def add_tower(folder: Path) -> dict[str, np.ndarray]:
    """Gives a folder the vision tower TOWER, of several dtypes, and returns its tensors by name."""
    config = dataclasses.replace(load_checkpoint(folder).config, vision=TOWER)
    rng, tower = np.random.default_rng(5), {}
    for i, (name, tensor) in enumerate(file_tensors(config, HF).items()):
        if name.startswith(HF_PREFIXES):
            dtype = (ml_dtypes.bfloat16, np.float32)[i % 2]
            tower[name] = np.asarray(rng.normal(size=tensor.shape)).astype(dtype)
    bound = next(name for name in tower if name.endswith("output_max"))
    tower[bound] = np.array(np.inf, np.float32)  # nothing is clipped there
    write_tensors(folder, text_tensors(folder) | tower)
    (folder / "config.json").write_text(json.dumps(config_to_hf(config)))
    return tower


def make_adapter(folder: Path, config: ModelConfig, base: str, seed: int = 0) -> Path:
    """Writes an adapter as PEFT does, of rank 2 and scale 1.5, and returns the folder.

    Its factors are on some maps of each kind: q and the experts of layer 0, and the
    self-conditioner's down.
    """
    rng = np.random.default_rng(seed)
    rank, experts, hidden = 2, config.num_experts, config.expert_dim
    heads = config.num_heads * (
        config.head_dim if config.layer_types[0] == "sliding" else config.full_head_dim
    )
    shapes = {  # in, out, number of experts
        "layers.0.self_attn.q_proj": (config.width, heads, 1),
        "layers.0.experts.base_layer": (config.width, 2 * hidden, experts),
        "layers.0.experts": (hidden, config.width, experts),
        "self_conditioning.down_proj": (config.mlp_dim, config.width, 1),
    }
    tensors = {}
    for name, (inputs, outputs, times) in shapes.items():
        pair = {"lora_A": (times * rank, inputs), "lora_B": (outputs, times * rank)}
        for factor, shape in pair.items():
            value = rng.normal(size=shape).astype(np.float32)
            for part in ("decoder", "encoder.language_model"):
                if part == "decoder" or name.startswith("layers"):
                    tensors[f"base_model.model.model.{part}.{name}.{factor}.weight"] = value
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "bias": "none",
        "r": rank,
        "lora_alpha": 3,
        "target_modules": ["layers.0.self_attn.q_proj", "self_conditioning.down_proj"],
        "target_parameters": ["layers.0.experts.gate_up_proj", "layers.0.experts.down_proj"],
        "use_dora": False,
        "rank_pattern": {},
        "modules_to_save": None,
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return folder


def edit_config(adapter: Path, **fields) -> None:
    """Changes fields of the config of an adapter."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def save_run(workdir: Path, model: DiffusionGemma, kind: type, lora: dict, **fields) -> None:
    """Writes two checkpoints of a run as train/checkpointer.py does; the earlier one has zeros.

    Args:
      workdir: the run's folder.
      model: the model of the later checkpoint.
      kind: the kind of the parameters that the run trained.
      lora: as in the run's config.
      fields: fields of the description, for example "init" and "base_fingerprint".
    """
    about = {"config": dataclasses.asdict(model.config), "dtype": "bfloat16", "init": ""}
    state = nnx.state(model, kind)
    with ocp.CheckpointManager((workdir / "checkpoints").absolute()) as manager:
        for step in (9, 10):
            params = jax.tree.map(jnp.zeros_like, state) if step == 9 else state
            items = ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                model=ocp.args.JsonSave(about | {"lora": lora} | fields),
            )
            manager.save(step, args=items)
            manager.wait_until_finished()


def assert_same_tensors(one: Path, other: Path) -> None:
    """Asserts that both folders hold the same tensors, to the bit."""
    first, second = read_all(one), read_all(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype, key
        assert value.shape == second[key].shape, key
        assert value.tobytes() == second[key].tobytes(), key


def read_all(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder's safetensors files."""
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def text_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder's safetensors files but those of the vision tower."""
    return {k: v for k, v in read_all(folder).items() if not k.startswith(HF_PREFIXES)}


def write_tensors(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Replaces the tensors of a folder with one safetensors file."""
    save_file(tensors, folder / "model.safetensors")


def nested(tensors: dict[str, np.ndarray]) -> dict:
    """Tensors by names like "layer_0/attn/w" as a tree of dicts."""
    tree: dict = {}
    for name, value in tensors.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def save_by_orbax(folder: Path, tree: dict) -> Path:
    """Lets Orbax itself save a tree, and returns the folder."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)
    return folder


def mapped_files(folder: Path) -> list[str]:
    """The folder's files that this process has mapped into memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    inside = f"{os.path.realpath(folder)}/"
    return [line for line in lines if inside in line]


def weights(model) -> dict[str, np.ndarray]:
    """The parameters of a model by path, LoRA factors too."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): np.asarray(value[...]) for path, value in state}


def assert_same(one, other) -> None:
    """Asserts that both models have the same parameters, to the bit."""
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value.dtype == other[key].dtype and value.tobytes() == other[key].tobytes(), key


def refusal(folder: Path, **kwargs) -> str:
    """What load_checkpoint says about a folder that it refuses."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, **kwargs)
    return str(caught.value)
