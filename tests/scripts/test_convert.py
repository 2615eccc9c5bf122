"""The converting command: what is copied, and bad input in one line with nothing written."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from scripts.convert import main
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    assert_same_tensors,
    edit_config,
    make_adapter,
    make_folder,
    read_all,
)

COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "processor_config.json",
    "LICENSE",
)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("convert") / "two", "two")


@pytest.fixture
def folder(two, tmp_path) -> Path:
    """A copy, to be spoilt."""
    return Path(shutil.copytree(two, tmp_path / "model"))


def convert(source: Path, target: Path, format: str, *flags: str) -> int:
    return main(["convert", f"--from={source}", f"--to={target}", f"--format={format}", *flags])


def refusal(capsys, source: Path, target: Path, format: str = "google", *flags: str) -> str:
    """The one line that a refused conversion says; nothing is written."""
    before = sorted(target.parent.iterdir())
    assert convert(source, target, format, *flags) == 2
    assert sorted(target.parent.iterdir()) == before
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err.removeprefix("error: ").strip()


@pytest.mark.parametrize("format", ["hf", "google", "orbax"])
def test_a_folder_goes_there_and_back_with_its_companions(folder, tmp_path, capsys, format):
    for name in COMPANIONS:
        (folder / name).write_text(f'"the {name}"')
    (folder / "answers.jsonl").write_text("not a part of the model")
    assert convert(folder, tmp_path / "there", format, "--shard_bytes=10000") == 0
    assert convert(tmp_path / "there", tmp_path / "back", "hf") == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'there'}\nwrote {tmp_path / 'back'}\n"
    assert_same_tensors(folder, tmp_path / "back")
    names = {f.name for f in (tmp_path / "back").iterdir()}
    assert names == {*COMPANIONS, "config.json", "model.safetensors"}
    for name in COMPANIONS:
        assert (tmp_path / "back" / name).read_text() == f'"the {name}"'
    assert len(list((tmp_path / "there").glob("*.safetensors"))) != 1


def test_dtype_flat_form_and_config(two, tmp_path):
    flags = ("--flat", "--dtype=float32")
    assert convert(two, tmp_path / "google", "google", *flags) == 0
    assert "'transformer/layer_0/attn/q_einsum'" in (tmp_path / "google" / "_METADATA").read_text()
    (tmp_path / "google" / "config.json").unlink()
    config = f"--config={two / 'config.json'}"
    assert convert(tmp_path / "google", tmp_path / "back", "hf", config) == 0
    before, after = read_all(two), read_all(tmp_path / "back")
    for key, value in before.items():
        assert after[key].tobytes() == value.astype(np.float32).tobytes(), key
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == "float32"


def test_an_empty_folder_is_filled(two, tmp_path):
    (tmp_path / "out").mkdir()
    assert convert(two, tmp_path / "out", "orbax") == 0
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["model", "params"]


# Bad input.


def test_target_that_is_not_empty_is_refused(two, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    said = refusal(capsys, two, tmp_path / "out")
    assert said == f"{tmp_path / 'out'}: exists and is not empty: choose a new folder"
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "file").touch()
    assert refusal(capsys, two, tmp_path / "file").startswith(f"{tmp_path / 'file'}: exists")


def test_folder_without_config_is_refused(folder, tmp_path, capsys):
    (folder / "config.json").unlink()
    assert refusal(capsys, folder, tmp_path / "out") == f"{folder}: no config.json"


@pytest.fixture
def shards(two, tmp_path) -> Path:
    assert convert(two, tmp_path / "shards", "hf", "--shard_bytes=20000") == 0
    return tmp_path / "shards"


def test_missing_shard_is_named(shards, tmp_path, capsys):
    capsys.readouterr()
    gone = sorted(shards.glob("*.safetensors"))[1]
    gone.unlink()
    said = refusal(capsys, shards, tmp_path / "out")
    assert said == f"{shards}: cannot be read (1): {gone.name} is not there"


@pytest.mark.parametrize(
    "index, said",
    [
        ("{", "not JSON: "),
        ("[]", "not a JSON object"),
        ("{}", "no weight_map of tensors and files beside it"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "no weight_map of tensors and files"),
        ('{"weight_map": {"a": 1}}', "no weight_map of tensors and files"),
        ('{"weight_map": ["model.safetensors"]}', "no weight_map of tensors and files"),
    ],
)
def test_corrupt_index_is_refused(shards, tmp_path, capsys, index, said):
    capsys.readouterr()
    file = shards / "model.safetensors.index.json"
    file.write_text(index)
    assert refusal(capsys, shards, tmp_path / "out").startswith(f"{file}: {said}")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickle_files_are_refused_by_name(folder, tmp_path, capsys, name):
    (folder / "model.safetensors").rename(folder / name)
    said = refusal(capsys, folder, tmp_path / "out")
    assert said.startswith(f"{folder}: has only pickle files ({name}), which are never read")


def test_wrong_dtypes_are_refused(folder, tmp_path, capsys):
    said = refusal(capsys, folder, tmp_path / "out", "hf", "--dtype=int8")
    assert said == "dtype int8: expected one of float32, float16, bfloat16"
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.norm.weight"] = np.ones(24, np.int64)
    save_file(tensors, folder / "model.safetensors")
    said = refusal(capsys, folder, tmp_path / "out")
    assert said == f"{folder}: dtype (1): model.decoder.norm.weight is I64"


def test_tensors_that_are_not_finite_are_refused(folder, tmp_path, capsys):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.norm.weight"][0] = np.inf
    tensors["model.decoder.layers.0.mlp.up_proj.weight"][3, 1] = np.nan
    save_file(tensors, folder / "model.safetensors")
    for format in ("hf", "google", "orbax"):
        said = refusal(capsys, folder, tmp_path / "out", format)
        assert said.startswith(f"{folder}: inf or nan (2): ")
        assert "model.decoder.norm.weight" in said
        assert "model.decoder.layers.0.mlp.up_proj.weight" in said


def test_a_value_too_large_for_the_new_dtype_is_named(folder, tmp_path, capsys):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.norm.weight"][0] = ml_dtypes.bfloat16(1e6)
    save_file(tensors, folder / "model.safetensors")
    said = refusal(capsys, folder, tmp_path / "out", "hf", "--dtype=float16")
    assert said == f"{folder}: inf or nan (1): model.decoder.norm.weight"


def test_modes_with_layer_scalars_of_their_own_are_refused_by_googles_layout(
    folder, tmp_path, capsys
):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.layers.1.layer_scalar"] *= 2
    save_file(tensors, folder / "model.safetensors")
    said = refusal(capsys, folder, tmp_path / "out")
    assert "they differ (1): layers.1.encode_scalar and layers.1.denoise_scalar" in said
    assert convert(folder, tmp_path / "out", "orbax") == 0


def test_google_checkpoint_without_config_is_refused(two, tmp_path, capsys):
    assert convert(two, tmp_path / "google", "google") == 0
    capsys.readouterr()
    (tmp_path / "google" / "config.json").unlink()
    said = refusal(capsys, tmp_path / "google", tmp_path / "out", "hf")
    assert "without a config.json: name a preset or the model's config.json (--config)" in said
    said = refusal(capsys, tmp_path / "google", tmp_path / "out", "hf", "--config=tiny")
    assert "shape (" in said and "missing (" in said  # that preset has more layers


def test_adapters(two, tmp_path, capsys):
    adapter = make_adapter(tmp_path / "adapter", CONFIGS["two"], "nowhere")
    said = refusal(capsys, adapter, tmp_path / "out", "hf")
    assert said.endswith(f"base {adapter / 'nowhere'} is not there: name their base (--base)")
    base = f"--base={two}"
    said = refusal(capsys, adapter, tmp_path / "out", "peft", base, "--dtype=bfloat16")
    assert said == "dtype: peft keeps the factors' own: leave it out"
    said = refusal(capsys, two, tmp_path / "out", "hf", base)
    assert said.endswith("so it takes no base (--base)")
    said = refusal(capsys, two, tmp_path / "out", "peft")
    assert said == (
        f"{two}: holds no LoRA factors, and peft holds nothing else: choose another format"
    )
    edit_config(adapter, use_dora=True, rank_pattern={"q_proj": 1})
    said = refusal(capsys, adapter, tmp_path / "out", "hf", base)
    advice = "is not supported: train again with plain LoRA of one rank"
    assert said.endswith(f"use_dora: True {advice}; rank_pattern: {{'q_proj': 1}} {advice}")
    edit_config(adapter, use_dora=False, rank_pattern={})
    assert convert(adapter, tmp_path / "merged", "hf", base) == 0
    assert read_all(tmp_path / "merged").keys() == read_all(two).keys()
    # With the base that was given as its own, relative to where it is now.
    assert convert(adapter, tmp_path / "deep" / "alone", "peft", base) == 0
    assert convert(tmp_path / "deep" / "alone", tmp_path / "again", "hf") == 0
    assert_same_tensors(tmp_path / "merged", tmp_path / "again")


def test_quantizing(two, tmp_path, capsys):
    assert convert(two, tmp_path / "small", "orbax", "--quantize=int4") == 0
    assert '"precision": "int4"' in (tmp_path / "small" / "model" / "metadata").read_text()
    capsys.readouterr()
    said = refusal(capsys, two, tmp_path / "out", "hf", "--quantize=int4")
    assert said == "quantize: only orbax holds quantized weights, not hf"
    said = refusal(capsys, tmp_path / "small", tmp_path / "out", "hf")
    source = tmp_path / "small"
    assert said.startswith(
        f"{source}: its weights are quantized, and hf cannot hold such weights: write orbax, or"
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "--from=PATH, --to=PATH and --format=peft|hf|google|orbax are needed"),
        (["--from=nowhere", "--to=out", "--format=hf"], "nowhere: no such folder"),
        (["--from=a", "--to=b", "--format=onnx"], "flag --format=onnx: value should be one of"),
        (["--from=a", "--to=b", "--format=hf", "--shard_bytes=0"], "flag --shard-bytes=0"),
        (["--from=a", "--too=b"], "Unknown command line flag 'too'"),
    ],
)
def test_bad_flags_are_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_says_what_it_does(capsys):
    assert main(["convert", "--help"]) == 0
    assert "--shard-bytes" in capsys.readouterr().out
