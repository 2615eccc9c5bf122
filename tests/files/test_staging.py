"""Staging folders: leftovers of dead writers go, and those of living writers stay."""

from pathlib import Path

import pytest

from files import staging as module
from files.staging import is_staging, staging, sweep
from tests.files.holders import kill, start_holder

HOLD = """
from pathlib import Path
from files.staging import staging
with staging(Path(sys.argv[1])) as new:
    (new / "part").write_text("1")
    wait()
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name.split(".")[0] for entry in folder.iterdir())


def test_the_leftover_of_a_killed_writer_goes_with_the_next_of_its_name(tmp_path):
    kill(start_holder(HOLD, tmp_path / "model"))
    kill(start_holder(HOLD, tmp_path / "other"))
    assert names(tmp_path) == ["model", "other"]
    assert all(is_staging(entry.name) for entry in tmp_path.iterdir())
    with staging(tmp_path / "model") as new:
        assert names(tmp_path) == ["model", "other"] and list(new.iterdir()) == []
        assert new.parent.name.startswith("model.")
    assert names(tmp_path) == ["other"]
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_living_writer_keeps_its_folder(tmp_path):
    holder = start_holder(HOLD, tmp_path / "model")
    sweep(tmp_path)
    # The second writer has the same name, and here even the same process id as the third.
    with staging(tmp_path / "model") as second, staging(tmp_path / "model") as third:
        (second / "a").touch()
        assert len(names(tmp_path)) == 3 and list(third.iterdir()) == []
        third.rename(tmp_path / "done")
        sweep(tmp_path)
        assert [file.name for file in second.iterdir()] == ["a"]
    assert names(tmp_path) == ["done", "model"]
    kill(holder)
    sweep(tmp_path, "model")
    assert names(tmp_path) == ["done"]


def test_a_folder_whose_lock_is_not_made_yet_is_removed_only_while_it_is_empty(tmp_path):
    empty, full = (tmp_path / f"a.{digit * 16}.unfinished" for digit in "01")
    for folder in (empty, full):
        folder.mkdir()
    (full / "new").mkdir()
    sweep(tmp_path)
    assert not empty.exists() and full.exists()


@pytest.mark.parametrize("moment", ["before the lock", "before it is taken"])
def test_a_writer_whose_folder_was_swept_at_its_birth_makes_another(tmp_path, monkeypatch, moment):
    swept, locked, take = [], module._locked, module.take

    def sweep_once(argument):
        if not swept:
            swept.extend(tmp_path.iterdir())
            monkeypatch.setattr(module, "take", take)
            sweep(tmp_path)
            assert not list(tmp_path.iterdir())

    def swept_locked(file):
        sweep_once(file)
        return locked(file)

    def swept_take(number):
        sweep_once(number)
        return take(number)

    if moment == "before the lock":
        monkeypatch.setattr(module, "_locked", swept_locked)
    else:
        monkeypatch.setattr(module, "take", swept_take)
    with staging(tmp_path / "model") as new:
        assert len(swept) == 1 and new.parent not in swept
        sweep(tmp_path)
        assert new.exists()


def test_names_that_only_look_alike_stay(tmp_path):
    for name in ("model.tmp12", "save.unfinished", "a.0123456789ABCDEF.unfinished"):
        (tmp_path / name / "new").mkdir(parents=True)
        (tmp_path / name / "lock").touch()
    (tmp_path / f"a.{'0' * 16}.unfinished").symlink_to(tmp_path / "model.tmp12")
    before = sorted(tmp_path.rglob("*"))
    sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
