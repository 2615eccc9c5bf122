"""Files and folders that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from diffusiongemma.formats.atomic_folder import staged, write_file, write_files
from diffusiongemma.formats.checks import CheckpointError


def test_a_replaced_folder_never_looks_complete_while_it_is_mixed(tmp_path, monkeypatch):
    """The config.json goes first and comes last."""
    folder = tmp_path / "model"
    with staged(folder) as temporary:
        for name in ("config.json", "model.safetensors", "z"):
            (temporary / name).write_text("old")
    seen, replace = [], Path.replace

    def watched(self, target):
        seen.append((self.name, (folder / "config.json").exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with staged(folder, replace=True) as temporary:
        for name in ("config.json", "model.safetensors"):
            (temporary / name).write_text("new")
    assert seen == [("model.safetensors", False), ("config.json", False)]
    assert {f.name: f.read_text() for f in folder.iterdir()} == {
        "config.json": "new",
        "model.safetensors": "new",
        "z": "old",
    }


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    write_files(tmp_path / "old", {"a": b"1"})
    synced = []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    for folder in (tmp_path / "old", tmp_path / "new" / "deep"):
        with monkeypatch.context() as patch:
            synced.clear()
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                write_files(folder, {"a": b"2", "b": b"3"})
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert os.listdir(tmp_path / "old") == ["a"]
    assert (tmp_path / "old" / "a").read_bytes() == b"1"


def test_a_staged_folder_appears_at_the_end_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "folder"
    with staged(folder) as temporary:
        (temporary / "a").write_text("1")
        assert not folder.exists()
    assert [f.name for f in folder.iterdir()] == ["a"]
    with pytest.raises(CheckpointError, match="folder: exists and is not empty"), staged(folder):
        pass
    with pytest.raises(KeyError), staged(tmp_path / "other" / "folder") as temporary:
        (temporary / "a").write_text("1")
        raise KeyError
    assert [f.name for f in tmp_path.iterdir()] == ["new"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_file(path, b"1")
    write_file(path, b"22")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"333")
    assert path.read_bytes() == b"22" and os.listdir(tmp_path / "new") == ["file"]
