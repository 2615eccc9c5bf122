"""The released layout: bit by bit in and out, in shards, and refused with all faults at once."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats import safetensors_file
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.config_file import CONFIG
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint, save_checkpoint
from diffusiongemma.transformer import DiffusionGemma
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    GOLDEN,
    assert_same,
    assert_same_tensors,
    make_adapter,
    make_folder,
    read_all,
    refusal,
    text_tensors,
    weights,
    write_tensors,
)


@pytest.mark.parametrize("name", ["hf_six", "hf_twelve"])
def test_folder_comes_back_bit_by_bit(tmp_path, name):
    model = load_checkpoint(GOLDEN / name)
    save_checkpoint(model, tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert sorted(f.name for f in out.iterdir()) == ["config.json", "model.safetensors"]
    before, after = text_tensors(GOLDEN / name), read_all(out)
    assert before.keys() == after.keys()
    for key in before:
        assert before[key].dtype == after[key].dtype
        assert before[key].tobytes() == after[key].tobytes(), key
    assert load_checkpoint(out).config == model.config


def test_layer_scalars_of_both_modes_are_read():
    layer = load_checkpoint(GOLDEN / "hf_six").layers[3]
    tensors = read_all(GOLDEN / "hf_six")
    encode = tensors["model.encoder.language_model.layers.3.layer_scalar"]
    denoise = tensors["model.decoder.layers.3.layer_scalar"]
    assert encode != denoise
    np.testing.assert_array_equal(layer.encode_scalar[...], encode)
    np.testing.assert_array_equal(layer.denoise_scalar[...], denoise)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bf16", "f16"])
def test_half_precision_files_keep_their_dtype_or_are_cast(folder, dtype):
    halves = {k: v.astype(dtype) for k, v in read_all(folder).items()}
    write_tensors(folder, halves)
    model = load_checkpoint(folder)
    assert {v.dtype for v in weights(model).values()} == {jnp.dtype(dtype)}
    save_checkpoint(model, folder)
    for key, value in read_all(folder).items():
        assert value.tobytes() == halves[key].tobytes(), key
    wider = weights(load_checkpoint(folder, jnp.float32))
    assert {v.dtype for v in wider.values()} == {np.dtype("f4")}


def add_vision(folder: Path) -> dict[str, np.ndarray]:
    """Gives a folder a vision tower with odd tensors, and returns them by name."""
    tower = "model.encoder.vision_tower."
    vision = {
        f"{tower}encoder.layers.0.mlp.up_proj.input_max": np.array(np.inf, np.float32),
        f"{tower}encoder.layers.0.mlp.up_proj.linear.weight": np.full((3, 5), -0.0, np.float32),
        f"{tower}patch_embedder.position_ids": np.arange(7, dtype=np.int64),
        f"{tower}std_scale": np.array([np.nan, 1], ml_dtypes.bfloat16),
        f"{tower}unused": np.zeros((0, 4), np.float16),
        "model.encoder.embed_vision.embedding_projection.weight": np.ones((24, 3), np.float64),
    }
    write_tensors(folder, text_tensors(folder) | vision)
    file = folder / "config.json"
    about = {"vision_config": {"hidden_size": 3, "novelty": 1}, "image_token_id": 7}
    file.write_text(json.dumps(json.loads(file.read_text()) | about | {"torch_dtype": "bfloat16"}))
    return vision


def test_the_vision_tower_is_copied_to_the_bit(two, tmp_path, monkeypatch):
    source = Path(shutil.copytree(two, tmp_path / "source"))
    vision = add_vision(source)
    monkeypatch.setattr(safetensors_file, "SLICE_BYTES", 16)
    convert_checkpoint(source, tmp_path / "same", "hf")
    assert_same_tensors(source, tmp_path / "same")
    before, after = (json.loads((f / CONFIG).read_text()) for f in (source, tmp_path / "same"))
    assert after.pop("dtype") == before.pop("torch_dtype") == "bfloat16"
    before.pop("dtype", None)
    assert before == after

    convert_checkpoint(source, tmp_path / "shards", "hf", shard_bytes=3_000)
    assert_same_tensors(source, tmp_path / "shards")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    assert set(vision) < set(index["weight_map"])
    sizes = [value.nbytes for value in read_all(source).values()]
    assert index["metadata"]["total_size"] == sum(sizes)

    # Neither a cast nor a merged adapter changes it.
    adapter = make_adapter(tmp_path / "adapter", CONFIGS["two"], str(source))
    convert_checkpoint(source, tmp_path / "cast", "hf", dtype="float32")
    convert_checkpoint(adapter, tmp_path / "merged", "hf")
    for name in ("cast", "merged"):
        found = read_all(tmp_path / name)
        for key, value in vision.items():
            assert found[key].dtype == value.dtype and found[key].shape == value.shape
            assert found[key].tobytes() == value.tobytes()
        config = json.loads((tmp_path / name / CONFIG).read_text())
        assert config["vision_config"] == {"hidden_size": 3, "novelty": 1}
        assert config["dtype"] == ("float32" if name == "cast" else "bfloat16")
    for name, dtype in (("cast", "float32"), ("merged", "bfloat16")):
        text = text_tensors(tmp_path / name).values()
        assert {value.dtype.name for value in text} == {dtype}


def test_a_model_in_memory_or_from_another_format_has_no_vision(two, tmp_path, capsys):
    source, orbax = Path(shutil.copytree(two, tmp_path / "source")), tmp_path / "orbax"
    add_vision(source)
    model = load_checkpoint(source)
    save_checkpoint(model, tmp_path / "saved")
    convert_checkpoint(two, tmp_path / "blind", "orbax")
    assert capsys.readouterr().err == ""
    convert_checkpoint(source, orbax, "orbax")
    assert capsys.readouterr().err == (
        f"warning: {orbax}: is written without the vision tower of {source}, because orbax holds "
        f"none: --vision={source} adds it when you convert back\n"
    )
    convert_checkpoint(orbax, tmp_path / "back", "hf")
    assert capsys.readouterr().err == (
        f"warning: {tmp_path / 'back'}: is written without a vision tower, because {orbax} has "
        "none: --vision=DIR adds the tower of another folder, for example of the release\n"
    )
    for name in ("saved", "back"):
        assert_same_tensors(two, tmp_path / name)
        config = json.loads((tmp_path / name / CONFIG).read_text())
        assert config["vision_config"]["num_hidden_layers"] == 0

    # It gets one if it is asked for.
    convert_checkpoint(orbax, tmp_path / "seeing", "hf", vision=source)
    untouched = open_checkpoint(source)[0].untouched
    save_checkpoint(model, tmp_path / "saved seeing", untouched=untouched)
    for name in ("seeing", "saved seeing"):
        assert_same_tensors(source, tmp_path / name)
        config = json.loads((tmp_path / name / CONFIG).read_text())
        assert config["vision_config"] == {"hidden_size": 3, "novelty": 1}
    assert capsys.readouterr().err == ""
    six = make_folder(tmp_path / "six", "six")
    for folder, format, said in (
        (two, "hf", f"{two}: has no vision tower: name the released folder"),
        (source, "google", "vision: the format google holds no vision tower: leave it out"),
        (source, "peft", "vision: the format peft holds no vision tower: leave it out"),
    ):
        with pytest.raises(CheckpointError, match=said):
            convert_checkpoint(tmp_path / "orbax", tmp_path / "out", format, vision=folder)
    with pytest.raises(CheckpointError, match=f"{source}: its text model is not that of {six}"):
        convert_checkpoint(six, tmp_path / "out", "hf", vision=source)


def test_large_weights_are_written_in_shards(two, tmp_path):
    largest = max(value.nbytes for value in read_all(two).values())
    convert_checkpoint(two, tmp_path / "out", "hf", shard_bytes=10_000)
    assert_same_tensors(two, tmp_path / "out")
    assert_same(load_checkpoint(tmp_path / "out"), load_checkpoint(two))
    files = sorted(f.name for f in (tmp_path / "out").glob("*.safetensors"))
    count = len(files)
    assert count > 3
    assert files == [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    sizes = {}
    for file in files:
        tensors = load_file(tmp_path / "out" / file)
        assert {k for k, v in index["weight_map"].items() if v == file} == set(tensors)
        sizes[file] = sum(value.nbytes for value in tensors.values())
    assert max(sizes.values()) <= max(10_000, largest)
    assert index["metadata"]["total_size"] == sum(sizes.values())


@pytest.mark.parametrize("with_index", [True, False])
def test_sharded_folder_loads_the_same_model(folder, with_index):
    whole = weights(load_checkpoint(folder))
    tensors = read_all(folder)
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
    parts = weights(load_checkpoint(folder))
    assert whole.keys() == parts.keys()
    for path, value in whole.items():
        np.testing.assert_array_equal(value, parts[path])
    (folder / "model-00002-of-00003.safetensors").unlink()
    said = "model-00002-of-00003.safetensors is not there" if with_index else "missing ("
    assert said in refusal(folder)


def test_the_files_that_transformers_reads_are_read(folder, capsys):
    """model.safetensors, else the index; what lies beside them is named once."""
    shard, index = "model-00001-of-00001.safetensors", "model.safetensors.index.json"
    tensors = read_all(folder)
    new = tensors | {"model.decoder.norm.weight": np.full(32, 3, np.float32)}
    save_file(new, folder / shard)
    (folder / index).write_text(json.dumps({"weight_map": dict.fromkeys(new, shard)}))
    for name in ("consolidated.safetensors", "._model.safetensors", "._" + shard):
        (folder / name).write_bytes(b"no weights")

    def norm() -> float:
        return open_checkpoint(folder)[0].read("model.decoder.norm.weight")[0]

    for _ in range(2):
        assert norm() == tensors["model.decoder.norm.weight"][0] != 3
    said = f"warning: {folder}: the weights in {{}} are read, as transformers does, and these "
    said += "files are not: {}\n"
    unused = f"{index}, consolidated.safetensors, {shard}"
    assert capsys.readouterr().err == said.format("model.safetensors", unused)
    (folder / "model.safetensors").unlink()
    assert norm() == 3
    read = f"the files of {index}"
    assert capsys.readouterr().err == said.format(read, "consolidated.safetensors")


def test_a_conversion_that_fails_does_not_say_what_it_wrote(folder, tmp_path, capsys):
    add_vision(folder)
    write_tensors(
        folder, read_all(folder) | {"model.decoder.norm.weight": np.full(32, np.nan, "f4")}
    )
    with pytest.raises(CheckpointError):
        convert_checkpoint(folder, tmp_path / "out", "orbax")
    assert capsys.readouterr().err == ""


def test_missing_extra_and_misshapen_tensors_are_reported_together(folder):
    tensors = read_all(folder)
    del tensors["model.decoder.norm.weight"]
    del tensors["model.encoder.language_model.layers.2.layer_scalar"]
    tensors["model.decoder.layers.5.self_attn.v_proj.weight"] = np.zeros((16, 32), np.float32)
    tensors["model.decoder.layers.0.mlp.up_proj.weight"] = np.zeros((32, 24), np.float32)
    tensors["model.decoder.layers.1.router.scale"] = np.ones(32, np.int32)
    write_tensors(folder, tensors)
    message = refusal(folder)
    assert "missing (2): " in message and "model.decoder.norm.weight" in message
    assert "model.encoder.language_model.layers.2.layer_scalar" in message
    assert "extra (1): model.decoder.layers.5.self_attn.v_proj.weight" in message
    assert "layers.0.mlp.up_proj.weight is [32, 24], not [24, 32]" in message
    assert "layers.1.router.scale is I32" in message
    assert "vision" not in message


def test_shards_do_not_mix_with_other_weights(two, tmp_path):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "whole")
    with pytest.raises(CheckpointError, match=r"in the way \(1\): model\.safetensors$"):
        save_checkpoint(model, tmp_path / "whole", shard_bytes=10_000)
    save_checkpoint(model, tmp_path / "parts", shard_bytes=10_000)
    save_checkpoint(model, tmp_path / "parts", shard_bytes=10_000)
    with pytest.raises(CheckpointError, match="in the way"):
        save_checkpoint(model, tmp_path / "parts")
    assert_same(load_checkpoint(tmp_path / "parts"), model)
    for file in (tmp_path / "parts").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(
        CheckpointError, match=r"in the way \(1\): model\.safetensors\.index\.json$"
    ):
        save_checkpoint(model, tmp_path / "parts")


def test_save_refuses_a_folder_with_other_weights(tmp_path):
    shutil.copy(GOLDEN / "hf_six" / "model.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"other weights in the way \(1\): a\.safetensors"):
        save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path)


def test_save_refuses_a_sliding_last_layer(tmp_path):
    config = dataclasses.replace(ModelConfig.preset("tiny"), layer_types=("full", "sliding"))
    with pytest.raises(CheckpointError, match="the last layer must be a full attention layer"):
        model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
        save_checkpoint(model, tmp_path / "out")
