"""Files that are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from files.whole_file import GrowingFile, write_file, write_files
from tests.files.holders import ROOT, kill, start_holder

# Files of this process may have 100 bytes, as if the disk were full then.
LIMITED = """
import resource, sys
from pathlib import Path
from files.whole_file import GrowingFile, write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
folder = Path(sys.argv[1])
grows = GrowingFile(folder / "grows")
grows.add(b"1" * 60)
for write in (lambda: write_file(folder / "whole", b"2" * 101), lambda: grows.add(b"2" * 60)):
    try:
        write()
    except OSError as error:
        print(error.filename)
grows.add(b"3" * 40)
"""
HOLD = """
import os
from pathlib import Path
from files.whole_file import write_file
os.fsync = lambda number: wait()
write_file(Path(sys.argv[1]), b"new")
"""


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
            with pytest.raises(OSError, match=f"No space left on device: '{folder / 'b'}'"):
                write_files(folder, {"a": b"2", "b": b"3"})
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert os.listdir(tmp_path / "old") == ["a"]
    assert (tmp_path / "old" / "a").read_bytes() == b"1"


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


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_tidies_up(tmp_path):
    path = tmp_path / "file"
    write_file(path, b"old")
    kill(start_holder(HOLD, path))
    assert path.read_bytes() == b"old" and len(os.listdir(tmp_path)) == 2
    write_file(path, b"newer")
    assert path.read_bytes() == b"newer" and os.listdir(tmp_path) == ["file"]


def test_a_limit_of_the_kernel_leaves_whole_pieces(tmp_path):
    (tmp_path / "whole").write_text("old")
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "whole"), str(tmp_path / "grows")]
    assert (tmp_path / "whole").read_text() == "old"
    assert (tmp_path / "grows").read_bytes() == b"1" * 60 + b"3" * 40
    assert sorted(os.listdir(tmp_path)) == ["grows", "whole"]


def test_a_file_grows_where_it_was(tmp_path):
    for piece in (b"1\n", b"2\n"):
        file = GrowingFile(tmp_path / "file")
        file.add(piece)
        file.close()
    assert (tmp_path / "file").read_bytes() == b"1\n2\n"
