"""TensorBoard's events: what is in a file, and what a full disk leaves."""

import os
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from train.event_file import EventFile


def events(folder: Path) -> list[Event]:
    """The events of the only file in a folder, whose sums are right."""
    (file,) = folder.iterdir()
    assert file.name.startswith("events.out.tfevents.")
    data, found = file.read_bytes(), []
    while data:
        (length,), (sum_of_length,) = struct.unpack("<Q", data[:8]), struct.unpack("<I", data[8:12])
        assert sum_of_length == masked_crc32c(data[:8])
        body, (sum_of_body,) = data[12 : 12 + length], struct.unpack_from("<I", data, 12 + length)
        assert sum_of_body == masked_crc32c(body)
        found.append(Event.FromString(body))
        data = data[16 + length :]
    return found


def test_figures_are_in_the_file_at_once(tmp_path):
    file = EventFile(tmp_path / "tb")
    file.write(3, {"loss": 0.5, "a/b": 2.0})
    first, *rest = events(tmp_path / "tb")
    assert first.file_version == "brain.Event:2" and first.wall_time > 1e9
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in rest] == [
        (3, "loss", 0.5),
        (3, "a/b", 2.0),
    ]
    file.close()


def test_later_steps_of_older_files_are_purged(tmp_path):
    EventFile(tmp_path, purge_step=4).close()
    _, start = events(tmp_path)
    assert start.step == 4 and start.session_log.status == SessionLog.START


def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, monkeypatch):
    file, write = EventFile(tmp_path), os.write
    before = events(tmp_path)

    def half(number: int, data: bytes) -> int:
        return write(number, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match=r"No space left on device: '.*/events\.out\.tfevents\."):
            file.write(1, {"loss": 0.5})
    assert events(tmp_path) == before
    file.write(1, {"loss": 0.5})
    assert len(events(tmp_path)) == 2
    file.close()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/events\.out\.tfevents\."):
        EventFile(tmp_path / "new")
    assert not (tmp_path / "new").exists()
