"""Folders that appear whole or not at all, and models that are replaced without a gap."""

import os
import shutil
from pathlib import Path

import pytest

from diffusiongemma.formats.atomic_folder import READY, finish, staged
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.detect import open_checkpoint
from files.staging import staging
from tests.diffusiongemma.formats.folders import CONFIGS, write_random

NAMES = ("a.safetensors", "b.safetensors", "config.json")


class Killed(BaseException):
    """Stands for a SIGKILL: nothing tidies up after it but the kernel."""


def save(folder: Path, text: str, **options: bool) -> None:
    with staged(folder, **options) as temporary:
        for name in NAMES:
            (temporary / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}


def test_a_replaced_folder_has_a_model_at_every_moment(tmp_path, monkeypatch):
    """Each file is there all the time, and other files stay. The config.json comes last."""
    folder = tmp_path / "model"
    save(folder, "old")
    (folder / "z").write_text("mine")
    seen, replace = [], Path.replace

    def watched(self, target):
        seen.append(self.name)
        assert contents(folder).keys() == {*NAMES, "z"}
        replace(self, target)
        assert contents(folder).keys() == {*NAMES, "z"}

    monkeypatch.setattr(Path, "replace", watched)
    save(folder, "new", replace=True)
    assert seen == list(NAMES)
    assert contents(folder) == dict.fromkeys(NAMES, "new") | {"z": "mine"}
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("moved", range(4))
def test_a_save_that_is_killed_is_finished_by_the_next_one_who_comes(tmp_path, monkeypatch, moved):
    folder, replace, rmdir, left = tmp_path / "model", Path.replace, Path.rmdir, [moved]
    save(folder, "old")

    def killed(self, target):
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace(self, target)

    def killed_at_last(self):
        if self.name == READY:
            raise Killed
        rmdir(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "rmdir", killed_at_last)
        with pytest.raises(Killed):
            save(folder, "new", replace=True)
    assert contents(folder).keys() == set(NAMES)
    assert list(contents(folder).values()).count("new") == moved
    if moved % 2:
        finish(folder)
        assert contents(folder) == dict.fromkeys(NAMES, "new")
    else:
        save(folder, "newer", replace=True)
        assert contents(folder) == dict.fromkeys(NAMES, "newer")
    assert len(list(folder.iterdir())) == 3


def test_a_save_that_is_killed_before_it_is_ready_changes_nothing(tmp_path):
    folder = tmp_path / "model"
    save(folder, "old")
    with pytest.raises(KeyError), staged(folder, replace=True) as temporary:
        (temporary / "config.json").write_text("new")
        raise KeyError
    assert contents(folder) == dict.fromkeys(NAMES, "old") and len(list(folder.iterdir())) == 3


def test_two_who_finish_at_once_do_not_disturb_each_other(tmp_path, monkeypatch):
    folder, replace = tmp_path / "model", Path.replace
    save(folder, "old")
    shutil.copytree(folder, folder / READY)
    (folder / READY / "config.json").write_text("new")

    def raced(self, target):
        monkeypatch.setattr(Path, "replace", replace)
        finish(folder)
        replace(self, target)

    monkeypatch.setattr(Path, "replace", raced)
    finish(folder)
    assert contents(folder) == dict.fromkeys(NAMES, "old") | {"config.json": "new"}
    assert len(list(folder.iterdir())) == 3


def test_a_reader_finishes_a_save_or_says_that_it_cannot(tmp_path, monkeypatch):
    old, new = (write_random(tmp_path / f"{seed}", CONFIGS["two"], seed=seed) for seed in range(2))
    wanted = {file.name: file.read_bytes() for file in new.iterdir()}
    assert wanted["model.safetensors"] != (old / "model.safetensors").read_bytes()
    new.rename(old / READY)

    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(CheckpointError, match=r"a save was cut off .*Permission denied.*move"):
            open_checkpoint(old)
    open_checkpoint(old)
    assert {file.name: file.read_bytes() for file in old.iterdir()} == wanted


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


@pytest.mark.parametrize("there", [False, True])
def test_of_two_who_make_one_folder_the_first_wins(tmp_path, there):
    folder = tmp_path / "folder"
    if there:
        folder.mkdir()
    with (
        pytest.raises(CheckpointError, match="folder: could not be saved: another process has"),
        staged(folder) as second,
    ):
        save(folder, "first")
        (second / "config.json").write_text("second")
    assert contents(folder) == dict.fromkeys(NAMES, "first")
    assert os.listdir(tmp_path) == ["folder"] and len(os.listdir(folder)) == 3


def test_a_folder_in_which_somebody_begins_to_write_counts_as_empty(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with staging(folder / "save"):
        save(folder, "1")
    assert contents(folder) == dict.fromkeys(NAMES, "1") and len(os.listdir(folder)) == 3
