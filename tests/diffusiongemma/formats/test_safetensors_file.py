"""Files of safetensors: damaged ones, alignment, slices, and memory that is let go."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffusiongemma.formats import safetensors_file
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint, save_checkpoint
from tests.diffusiongemma.formats.folders import (
    assert_same_tensors,
    make_folder,
    mapped_files,
    refusal,
    weights,
)


def test_tensor_in_two_files_is_refused(folder):
    """Without model.safetensors and without an index, every file is read."""
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "._a.safetensors").write_bytes(b"\0\5\x16\7 of macOS")
    assert open_checkpoint(folder)
    save_file({"model.decoder.norm.weight": np.ones(32, np.float32)}, folder / "b.safetensors")
    said = refusal(folder)
    assert "twice (1): model.decoder.norm.weight" in said
    assert said.endswith("files that were read (2): a.safetensors, b.safetensors")


@pytest.mark.parametrize("size", [1, 100, 200_000])
def test_cut_file_is_refused(folder, size):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    message = refusal(folder)
    assert "model.safetensors is cut short or damaged" in message and "missing" not in message


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "is empty: download it again"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 51611868\n",
            "is a pointer of git-lfs and not the file itself: run git lfs pull in its folder",
        ),
        (
            "<html><title>Access is restricted</title></html>",
            "is a web page and not the file itself: download it again, after a login if it asks",
        ),
    ],
)
def test_a_failed_download_is_named(folder, text, said):
    (folder / "model.safetensors").write_text(text)
    assert refusal(folder) == f"{folder}:\n  cannot be read (1): model.safetensors {said}"


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


def test_long_tensors_are_written_in_slices(two, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_file, "SLICE_BYTES", 100)
    convert_checkpoint(two, tmp_path / "out", "hf")
    assert_same_tensors(two, tmp_path / "out")


def test_failure_in_a_later_shard_leaves_nothing(two, tmp_path, monkeypatch):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "old")
    before = {f.name: f.read_bytes() for f in (tmp_path / "old").iterdir()}
    write, calls = safetensors_file._write_array, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 20:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(safetensors_file, "_write_array", failing)
    for folder, shard_bytes in ((tmp_path / "new" / "out", 10_000), (tmp_path / "old", 10**9)):
        calls.clear()
        with pytest.raises(CheckpointError, match=r"could not be saved: No space left on device$"):
            save_checkpoint(model, folder, shard_bytes=shard_bytes)
        assert len(calls) == 20
    assert [f.name for f in tmp_path.iterdir()] == ["old"]
    assert {f.name: f.read_bytes() for f in (tmp_path / "old").iterdir()} == before


def test_no_file_stays_mapped_by_a_loaded_model(two):
    model = load_checkpoint(two)
    assert not mapped_files(two)
    assert weights(model)


def test_conversion_maps_a_few_tensors_at_a_time(two, tmp_path, monkeypatch):
    counts, write = [], safetensors_file._write_array

    def counting(*args):
        counts.append(len(mapped_files(two)))
        write(*args)

    monkeypatch.setattr(safetensors_file, "_write_array", counting)
    convert_checkpoint(two, tmp_path / "out", "hf")
    assert len(counts) > 40 and max(counts) == 1
    assert not mapped_files(two)
