"""Shards, folders that appear whole, and memory that is let go."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from diffusiongemma.formats import atomic_folder, hf, orbax_tree
from diffusiongemma.formats.load_save import (
    CheckpointError,
    convert_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tests.diffusiongemma.formats.folders import (
    assert_same,
    assert_same_tensors,
    make_folder,
    mapped_files,
    read_all,
    weights,
)


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


def test_shards_of_two_dtypes_are_aligned(tmp_path):
    source = make_folder(tmp_path / "three", "three")
    convert_checkpoint(source, tmp_path / "out", "hf", shard_bytes=6_000)
    assert_same_tensors(source, tmp_path / "out")
    for file in (tmp_path / "out").glob("*.safetensors"):
        data = file.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__")
        for entry in header.values():
            width = {"F32": 4, "BF16": 2}[entry["dtype"]]
            assert (8 + size + entry["data_offsets"][0]) % width == 0


def test_failure_in_a_later_shard_leaves_nothing(two, tmp_path, monkeypatch):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "old")
    before = {f.name: f.read_bytes() for f in (tmp_path / "old").iterdir()}
    write, calls = hf._write_array, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 20:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(hf, "_write_array", failing)
    for folder, shard_bytes in ((tmp_path / "new" / "out", 10_000), (tmp_path / "old", 10**9)):
        calls.clear()
        with pytest.raises(CheckpointError, match=r"could not be saved: No space left on device$"):
            save_checkpoint(model, folder, shard_bytes=shard_bytes)
        assert len(calls) == 20
    assert [f.name for f in tmp_path.iterdir()] == ["old"]
    assert {f.name: f.read_bytes() for f in (tmp_path / "old").iterdir()} == before


def test_failure_while_orbax_saves_leaves_nothing(two, tmp_path, monkeypatch):
    def failing(tensor, weights):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffusiongemma.formats.google.assembled", failing)
    with pytest.raises(CheckpointError, match="No space left on device"):
        convert_checkpoint(two, tmp_path / "new" / "out", "google")
    assert not list(tmp_path.iterdir())


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


def test_a_replaced_folder_never_looks_complete_while_it_is_mixed(tmp_path, monkeypatch):
    """The config.json goes first and comes last."""
    folder = tmp_path / "model"
    with atomic_folder.staged(folder) as temporary:
        for name in ("config.json", "model.safetensors", "z"):
            (temporary / name).write_text("old")
    seen, replace = [], Path.replace

    def watched(self, target):
        seen.append((self.name, (folder / "config.json").exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with atomic_folder.staged(folder, replace=True) as temporary:
        for name in ("config.json", "model.safetensors"):
            (temporary / name).write_text("new")
    assert seen == [("model.safetensors", False), ("config.json", False)]
    assert {f.name: f.read_text() for f in folder.iterdir()} == {
        "config.json": "new",
        "model.safetensors": "new",
        "z": "old",
    }


# Memory: what was read is let go.


def test_no_file_stays_mapped_by_a_loaded_model(two):
    model = load_checkpoint(two)
    assert not mapped_files(two)
    assert weights(model)


def test_conversion_maps_a_few_tensors_at_a_time(two, tmp_path, monkeypatch):
    counts, write = [], hf._write_array

    def counting(*args):
        counts.append(len(mapped_files(two)))
        write(*args)

    monkeypatch.setattr(hf, "_write_array", counting)
    convert_checkpoint(two, tmp_path / "out", "hf")
    assert len(counts) > 40 and max(counts) == 1
    assert not mapped_files(two)


def test_long_tensors_are_written_in_slices(two, tmp_path, monkeypatch):
    monkeypatch.setattr(hf, "SLICE_BYTES", 100)
    convert_checkpoint(two, tmp_path / "out", "hf")
    assert_same_tensors(two, tmp_path / "out")


def test_orbax_saves_leaves_in_batches(two, tmp_path, monkeypatch):
    monkeypatch.setattr(orbax_tree, "BATCH_BYTES", 20_000)
    convert_checkpoint(two, tmp_path / "other", "orbax")
    convert_checkpoint(tmp_path / "other", tmp_path / "back", "hf")
    assert_same_tensors(two, tmp_path / "back")
