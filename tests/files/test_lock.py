"""Locks say who holds them, and end with their process."""

import errno
import fcntl
import os
import socket
import subprocess

import pytest

from files import lock as locks
from files.lock import Held, lock
from tests.files.holders import kill, start_holder

HOLD = """
from pathlib import Path
from files.lock import lock
with lock(Path(sys.argv[1])):
    wait()
"""
HOLD_WITH_CHILD = """
import subprocess
from pathlib import Path
from files.lock import lock
with lock(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, close_fds=False)
    Path(sys.argv[2]).write_text(str(child.pid))
    wait()
"""


def test_who_holds_a_lock_is_said_in_one_line(tmp_path):
    file = tmp_path / "a.lock"
    holder = start_holder(HOLD, file)
    with pytest.raises(Held) as caught, lock(file):
        pass
    kill(holder)
    said, where = str(caught.value), f"process {holder.pid} on host {socket.gethostname()} since 20"
    assert where in said and said.endswith(f" UTC: '{file}'") and "\n" not in said


def test_a_killed_holder_leaves_a_file_and_no_lock(tmp_path):
    file, child = tmp_path / "a.lock", tmp_path / "child"
    kill(start_holder(HOLD_WITH_CHILD, file, child))
    try:
        assert file.exists()
        with lock(file):
            assert f"process {os.getpid()} " in file.read_text()
    finally:
        subprocess.run(["kill", child.read_text()], check=True)
    assert not file.exists()


def test_a_lock_is_held_once(tmp_path):
    file = tmp_path / "a.lock"
    for _ in range(2):
        with lock(file), pytest.raises(Held), lock(file):
            pass
    assert not file.exists()


def test_a_file_that_was_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    """The one who held the lock removed the file between our opening and our locking it."""
    file, taken = tmp_path / "a.lock", []

    def take(number: int) -> bool:
        if not taken:
            file.unlink()
        taken.append(number)
        fcntl.flock(number, fcntl.LOCK_EX)
        return True

    monkeypatch.setattr(locks, "take", take)
    with lock(file):
        assert len(taken) == 2
        with file.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_filesystem_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def refuse(number: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock(tmp_path / "a.lock"):
        pass
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {tmp_path}: the filesystem has no locks")
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    file = tmp_path / "a.lock"
    monkeypatch.setattr(os, "pwrite", lambda number, text, at: len(text) - 1)
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"), lock(file):
        pass
    assert not file.exists()


def test_what_a_file_says_of_its_holder_cannot_control_a_terminal(tmp_path):
    file = tmp_path / "a.lock"
    file.write_bytes(b"\x1b[2J\nhi \xff" + b"x" * 1000)
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Held) as caught, lock(file):
            pass
    assert caught.value.holder.startswith("\ufffd[2J hi \ufffdxxx")
    assert len(caught.value.holder) < 210
