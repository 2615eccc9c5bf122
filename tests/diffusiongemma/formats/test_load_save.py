"""Checkpoint folders: in and out bit by bit, refused with all that is wrong at once, saved."""

import dataclasses
import json
import resource
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats import weights
from diffusiongemma.formats.load_save import CheckpointError, load_checkpoint, save_checkpoint
from diffusiongemma.formats.tensor_tables import HF_SKIPPED_PREFIXES
from diffusiongemma.transformer import DiffusionGemma

GOLDEN = Path(__file__).parents[2] / "golden"
MODELS = ("hf_six", "hf_twelve")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of a golden checkpoint, to be spoilt."""
    shutil.copytree(GOLDEN / "hf_six", tmp_path / "model")
    return tmp_path / "model"


def read(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def write(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, folder / "model.safetensors")


def text_tensors(folder: Path) -> dict[str, np.ndarray]:
    return {k: v for k, v in read(folder).items() if not k.startswith(HF_SKIPPED_PREFIXES)}


def refusal(folder: Path, **kwargs) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, **kwargs)
    return str(caught.value)


def leaves(model: DiffusionGemma) -> list[jax.Array]:
    return [v[...] for _, v in nnx.to_flat_state(nnx.state(model))]


@pytest.mark.parametrize("name", MODELS)
def test_folder_comes_back_bit_by_bit(tmp_path, name):
    model = load_checkpoint(GOLDEN / name)
    save_checkpoint(model, tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert sorted(f.name for f in out.iterdir()) == ["config.json", "model.safetensors"]
    before, after = text_tensors(GOLDEN / name), read(out)
    assert before.keys() == after.keys()
    for key in before:
        assert before[key].dtype == after[key].dtype
        assert before[key].tobytes() == after[key].tobytes(), key
    assert load_checkpoint(out).config == model.config


def test_layer_scalars_of_both_modes_are_read():
    layer = load_checkpoint(GOLDEN / "hf_six").layers[3]
    tensors = read(GOLDEN / "hf_six")
    encode = tensors["model.encoder.language_model.layers.3.layer_scalar"]
    denoise = tensors["model.decoder.layers.3.layer_scalar"]
    assert encode != denoise
    np.testing.assert_array_equal(layer.encode_scalar[...], encode)
    np.testing.assert_array_equal(layer.denoise_scalar[...], denoise)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bf16", "f16"])
def test_half_precision_files_keep_their_dtype_or_are_cast(folder, dtype):
    halves = {k: v.astype(dtype) for k, v in read(folder).items()}
    write(folder, halves)
    model = load_checkpoint(folder)
    assert {v.dtype for v in leaves(model)} == {jnp.dtype(dtype)}
    save_checkpoint(model, folder)
    for key, value in read(folder).items():
        assert value.tobytes() == halves[key].tobytes(), key
    assert {v.dtype for v in leaves(load_checkpoint(folder, jnp.float32))} == {np.dtype("f4")}


@pytest.mark.parametrize("with_index", [True, False])
def test_sharded_folder_loads_the_same_model(folder, with_index):
    whole = leaves(load_checkpoint(folder))
    tensors = read(folder)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i in range(3):
        part = {k: tensors[k] for k in sorted(tensors)[i::3]}
        name = f"model-0000{i + 1}-of-00003.safetensors"
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    if with_index:
        index = {"weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    parts = leaves(load_checkpoint(folder))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    (folder / "model-00002-of-00003.safetensors").unlink()
    said = "model-00002-of-00003.safetensors is not there" if with_index else "missing ("
    assert said in refusal(folder)


def test_sharding_is_asked_for_every_parameter():
    asked = []

    def sharding(path, shape):
        asked.append((path, shape))
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])

    model = load_checkpoint(GOLDEN / "hf_six", sharding=sharding)
    assert len(asked) == len(leaves(model))
    assert ("layers.5.moe.gate_up.kernel", (4, 32, 16)) in asked


# Faults, each in one report.


def test_missing_extra_and_misshapen_tensors_are_reported_together(folder):
    tensors = read(folder)
    del tensors["model.decoder.norm.weight"]
    del tensors["model.encoder.language_model.layers.2.layer_scalar"]
    tensors["model.decoder.layers.5.self_attn.v_proj.weight"] = np.zeros((16, 32), np.float32)
    tensors["model.decoder.layers.0.mlp.up_proj.weight"] = np.zeros((32, 24), np.float32)
    tensors["model.decoder.layers.1.router.scale"] = np.ones(32, np.int32)
    write(folder, tensors)
    message = refusal(folder)
    assert "missing (2): " in message and "model.decoder.norm.weight" in message
    assert "model.encoder.language_model.layers.2.layer_scalar" in message
    assert "extra (1): model.decoder.layers.5.self_attn.v_proj.weight" in message
    assert "layers.0.mlp.up_proj.weight is [32, 24], not [24, 32]" in message
    assert "layers.1.router.scale is I32" in message
    assert "vision" not in message


def test_long_lists_are_cut(folder):
    write(folder, {"other": np.zeros(1, np.float32)})
    message = refusal(folder)
    assert "missing (143)" in message and "and 123 more" in message and len(message) < 3000


def test_tensor_in_two_files_is_refused(folder):
    save_file({"model.decoder.norm.weight": np.ones(32, np.float32)}, folder / "b.safetensors")
    assert "twice (1): model.decoder.norm.weight" in refusal(folder)


@pytest.mark.parametrize("size", [0, 100, 200_000])
def test_cut_file_is_refused(folder, size):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    message = refusal(folder)
    assert "model.safetensors is cut short or damaged" in message and "missing" not in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tensors_that_are_not_finite_are_named(folder, bad, dtype):
    tensors = {k: v.astype(dtype) for k, v in read(folder).items()}
    for name in ("model.decoder.layers.3.experts.down_proj", "model.decoder.norm.weight"):
        tensors[name].flat[-1] = bad
    write(folder, tensors)
    message = refusal(folder)
    assert "inf or nan (2)" in message
    assert "model.decoder.layers.3.experts.down_proj" in message
    assert "model.decoder.norm.weight" in message


def test_overflow_of_a_narrower_dtype_is_named(folder):
    tensors = read(folder)
    tensors["model.decoder.norm.weight"][0] = 1e6
    write(folder, tensors)
    load_checkpoint(folder)
    assert "inf or nan (1): model.decoder.norm.weight" in refusal(folder, dtype=np.float16)


def test_config_faults_are_reported_with_the_file(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"novelty": 1}
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder) == f"{folder / 'config.json'}: text_config.novelty: unknown field"


def test_folder_without_config_or_weights_is_refused(folder, tmp_path):
    assert refusal(tmp_path / "nowhere").endswith("no such folder")
    (folder / "config.json").rename(tmp_path / "config.json")
    assert refusal(folder).endswith("no config.json")
    (folder / "config.json").write_text("{")
    assert "config.json: not JSON" in refusal(folder)
    (folder / "model.safetensors").unlink()
    said = "expected config.json and *.safetensors, or a checkpoint of Orbax"
    assert refusal(folder).endswith(said)


@pytest.mark.parametrize("dtype", ["int8", "float64", "bfloat17"])
def test_unknown_dtype_is_refused(folder, dtype):
    assert f"dtype {dtype}: expected one of float32, float16, bfloat16" in refusal(
        folder, dtype=dtype
    )


# Saving.


def test_failed_save_leaves_what_was_there(tmp_path):
    """The file size limit stands for a full disk: a write that fails half-way."""
    model = load_checkpoint(GOLDEN / "hf_six")
    old = tmp_path / "old"
    save_checkpoint(load_checkpoint(GOLDEN / "hf_twelve"), old)
    before = {f.name: f.read_bytes() for f in old.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for path in (old, tmp_path / "new" / "folder"):
            with pytest.raises(CheckpointError, match=r"could not be saved: File too large$"):
                save_checkpoint(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {f.name: f.read_bytes() for f in old.iterdir()} == before
    assert [f.name for f in tmp_path.iterdir()] == ["old"]


def test_save_refuses_what_the_format_cannot_hold(tmp_path):
    model = load_checkpoint(GOLDEN / "hf_six")
    model.layers[0].attention.q.lora_a = nnx.LoRAParam(jnp.zeros((32, 2)))
    with pytest.raises(CheckpointError, match=r"no place in the format \(1\): layers\.0\..*lora_a"):
        save_checkpoint(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_save_refuses_a_sliding_last_layer(tmp_path):
    config = dataclasses.replace(ModelConfig.preset("tiny"), layer_types=("full", "sliding"))
    with pytest.raises(CheckpointError, match="wants a full attention layer last"):
        model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
        save_checkpoint(model, tmp_path / "out")


def test_save_refuses_a_folder_with_other_weights(tmp_path):
    shutil.copy(GOLDEN / "hf_six" / "model.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"other weights in the way \(1\): a\.safetensors"):
        save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path)


def test_save_to_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be saved: File exists"):
        save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path / "file")


def test_save_casts_on_request(tmp_path):
    save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path, "bfloat16")
    before, after = text_tensors(GOLDEN / "hf_six"), read(tmp_path)
    for key, value in after.items():
        assert value.tobytes() == before[key].astype(ml_dtypes.bfloat16).tobytes(), key
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_finiteness_is_checked_to_the_last_element():
    array = np.zeros((1 << 21) + 3, np.float32)
    assert weights.is_finite(array)
    array[-1] = np.nan
    assert not weights.is_finite(array)
