"""Files that lie in a folder, and links that lead out of it."""

import os

import pytest

from files.inside import check_inside, is_inside
from files.regular import special_among


def test_links_may_lead_to_the_folder_and_to_the_blobs_of_its_cache(tmp_path):
    snapshot, blobs = tmp_path / "snapshots" / "0a", tmp_path / "blobs"
    for folder in (snapshot / "inner", blobs / "deeper"):
        folder.mkdir(parents=True)
    for file in (snapshot / "real", blobs / "ff", blobs / "deeper" / "ff", tmp_path / "secret"):
        file.touch()
    for name, target in {
        "own": "real",
        "blob": "../../blobs/ff",
        "inner/blob": "../../../blobs/ff",
    }.items():
        os.symlink(target, snapshot / name)
        assert is_inside(snapshot, snapshot / name)
        check_inside(snapshot, snapshot / name)
    for name, target in {
        "deep": "../../blobs/deeper/ff",
        "out": "../../secret",
        "passwd": "/etc/passwd",
        "gone": "../../gone",
    }.items():
        os.symlink(target, snapshot / name)
        assert not is_inside(snapshot, snapshot / name)
        with pytest.raises(ValueError, match=f"{name}: is a link to a file outside of its folder"):
            check_inside(snapshot, snapshot / name)
    check_inside(snapshot, snapshot / "nothing")
    # Elsewhere, a folder of this name has no meaning.
    other = tmp_path / "models" / "0a"
    other.mkdir(parents=True)
    os.symlink("../../blobs/ff", other / "blob")
    assert not is_inside(other, other / "blob")


def test_pipes_and_devices_are_found(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    os.symlink("nowhere", tmp_path / "gone")
    assert special_among(sorted(tmp_path.iterdir())) == tmp_path / "pipe"
    with pytest.raises(ValueError, match="pipe: is a pipe, a device or a socket"):
        check_inside(tmp_path, tmp_path / "pipe")
    (tmp_path / "pipe").unlink()
    assert special_among([tmp_path, *tmp_path.iterdir()]) is None
    os.symlink("/dev/null", tmp_path / "null")
    assert special_among(tmp_path.iterdir()) == tmp_path / "null"
