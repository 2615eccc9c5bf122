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
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.config_file import CONFIG
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint, save_checkpoint
from diffusiongemma.transformer import DiffusionGemma
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    GOLDEN,
    TOWER,
    add_tower,
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


@pytest.mark.parametrize("name", ["hf_six", "hf_twelve", "hf_seeing", "hf_clipped"])
def test_folder_comes_back_bit_by_bit(tmp_path, name):
    model = load_checkpoint(GOLDEN / name)
    save_checkpoint(model, tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert sorted(f.name for f in out.iterdir()) == ["config.json", "model.safetensors"]
    assert_same_tensors(GOLDEN / name, out)
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


def test_a_folder_with_a_vision_tower_comes_back_from_every_format(two, tmp_path, capsys):
    source = Path(shutil.copytree(two, tmp_path / "source"))
    tower = add_tower(source)
    about = json.loads((source / CONFIG).read_text())
    about |= {"torch_dtype": "bfloat16", "vision_soft_tokens_per_image": 280}
    about["vision_config"] |= {"default_output_length": 280, "initializer_range": 0.02}
    (source / CONFIG).write_text(json.dumps(about))
    config = load_checkpoint(source).config
    assert config.vision == TOWER

    # From hf to hf, all fields of config.json stay.
    convert_checkpoint(source, tmp_path / "same", "hf", shard_bytes=3_000)
    assert_same_tensors(source, tmp_path / "same")
    after = json.loads((tmp_path / "same" / CONFIG).read_text())
    assert after.pop("dtype") == about.pop("torch_dtype") and after == about

    convert_checkpoint(source, tmp_path / "orbax", "orbax")
    convert_checkpoint(tmp_path / "orbax", tmp_path / "back", "hf")
    save_checkpoint(load_checkpoint(source), tmp_path / "saved")
    for name in ("back", "saved"):
        assert_same_tensors(source, tmp_path / name)
        assert load_checkpoint(tmp_path / name).config == config
    # A merged adapter does not change it, and a cast is a cast of the tower too.
    adapter = make_adapter(tmp_path / "adapter", CONFIGS["two"], str(source))
    convert_checkpoint(adapter, tmp_path / "merged", "hf")
    convert_checkpoint(source, tmp_path / "cast", "hf", dtype="float32")
    merged, cast = read_all(tmp_path / "merged"), read_all(tmp_path / "cast")
    for key, value in tower.items():
        assert merged[key].dtype == value.dtype and merged[key].tobytes() == value.tobytes()
        np.testing.assert_array_equal(cast[key], value.astype(np.float32))
    assert {value.dtype.name for value in cast.values()} == {"float32"}
    assert capsys.readouterr().err == ""


def test_a_model_may_have_no_vision_tower_and_get_one(two, tmp_path, capsys):
    source, orbax = Path(shutil.copytree(two, tmp_path / "source")), tmp_path / "orbax"
    convert_checkpoint(two, orbax, "orbax")
    convert_checkpoint(orbax, tmp_path / "back", "hf")
    assert capsys.readouterr().err == (
        f"warning: {tmp_path / 'back'}: is written without a vision tower, because {orbax} has "
        "none: --vision=DIR adds the tower of another folder, for example of the release\n"
    )
    config = json.loads((tmp_path / "back" / CONFIG).read_text())
    assert config["vision_config"]["num_hidden_layers"] == 0
    add_tower(source)
    for name, format in (("seeing", "hf"), ("own", "orbax")):
        convert_checkpoint(orbax, tmp_path / name, format, vision=source)
        assert_same(load_checkpoint(tmp_path / name), load_checkpoint(source))
    assert_same_tensors(source, tmp_path / "seeing")
    # It gets what is wrong with the tower, too.
    tower = read_all(source)
    tower["model.encoder.vision_tower.std_scale"][3] = np.nan
    write_tensors(source, tower)
    with pytest.raises(CheckpointError, match=r"inf or nan \(1\): model.encoder.*std_scale"):
        convert_checkpoint(orbax, tmp_path / "out", "hf", vision=source)
    assert capsys.readouterr().err == ""
    six = make_folder(tmp_path / "six", "six")
    for folder, format, said in (
        (two, "hf", f"{two}: has no vision tower: name the released folder"),
        (source, "peft", "vision: the format peft holds no vision tower: leave it out"),
    ):
        with pytest.raises(CheckpointError, match=said):
            convert_checkpoint(tmp_path / "orbax", tmp_path / "out", format, vision=folder)
    with pytest.raises(CheckpointError, match=f"{source}: its text model is not that of {six}"):
        convert_checkpoint(six, tmp_path / "out", "hf", vision=source)


def test_faults_of_a_vision_tower_are_reported(two, tmp_path):
    source = Path(shutil.copytree(two, tmp_path / "source"))
    tower = add_tower(source)
    layer = "model.encoder.vision_tower.encoder.layers."
    wrong = tower | {f"{layer}2.mlp.up_proj.linear.weight": np.ones((5, 6), np.float32)}
    del wrong[f"{layer}0.mlp.up_proj.input_max"]
    write_tensors(source, text_tensors(source) | wrong)
    said = refusal(source)
    assert f"missing (1): {layer}0.mlp.up_proj.input_max" in said
    assert f"extra (1): {layer}2.mlp.up_proj.linear.weight" in said
    wrong = tower | {f"{layer}0.mlp.up_proj.input_max": np.array(np.nan, np.float32)}
    write_tensors(source, text_tensors(source) | wrong)
    assert f"inf or nan (1): {layer}0.mlp.up_proj.input_max" in refusal(source)
    # A config.json may say what it likes of a tower that is not there.
    config = json.loads((source / CONFIG).read_text())
    config["vision_config"] = {"hidden_size": 3, "novelty": 1}
    (source / CONFIG).write_text(json.dumps(config))
    assert "vision_config.novelty: unknown field" in refusal(source)
    write_tensors(source, text_tensors(source))
    assert load_checkpoint(source).config == CONFIGS["two"]


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
    convert_checkpoint(folder, tmp_path / "orbax", "orbax")
    with pytest.raises(CheckpointError):
        convert_checkpoint(tmp_path / "orbax", tmp_path / "out", "hf", shard_bytes=0)
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
