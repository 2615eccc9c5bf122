"""One training at a time writes to a workdir, and says so in one line."""

import os
import re
import shutil

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from files.lock import lock
from tests.files.holders import kill, start_holder
from train.config import ConfigError, RunConfig
from train.loop import train
from train.workdir import LOCK, by_first, held_workdir, is_new

HOLD = """
from pathlib import Path
from train.workdir import held_workdir
with held_workdir(Path(sys.argv[1])):
    wait()
"""
STAGING = f"config.json.{'0' * 16}.unfinished"
CONFIG = RunConfig.from_dict(
    {
        "seed": 0,
        "steps": 1,
        "batch_size": 1,
        "preset": "tiny",
        "data": {"task": "sudoku", "prompt_length": 40, "box": 2, "clues": "6-8"},
        "loss": {"canvas_size": 24, "noise_draws": 1},
        "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 0},
        "eval": {"every": 0},
    }
)


def test_a_second_training_is_refused_in_one_line_and_a_killed_one_is_no_hindrance(tmp_path):
    workdir = tmp_path / "deep" / "run"
    holder = start_holder(HOLD, workdir)
    (workdir / "config.json").write_text("{}")
    leftover = workdir / STAGING
    leftover.mkdir()
    with pytest.raises(ConfigError) as caught:
        train(CONFIG, workdir)
    assert re.fullmatch(
        rf"{workdir}: another training, process {holder.pid} on host \S+ since [-\d]+ [:\d]+ UTC, "
        "writes here: wait for its end, or choose another --workdir",
        str(caught.value),
    )
    assert {entry.name for entry in workdir.iterdir()} == {LOCK, "config.json", STAGING}
    kill(holder)
    with held_workdir(workdir):
        assert f"process {os.getpid()} " in (workdir / LOCK).read_text()
        assert {entry.name for entry in workdir.iterdir()} == {LOCK, "config.json"}
    assert [entry.name for entry in workdir.iterdir()] == ["config.json"]


def test_a_workdir_that_got_nothing_is_removed_again(tmp_path):
    for error in (KeyError, None):
        with pytest.raises(KeyError), held_workdir(tmp_path / "deep" / "run"):
            assert is_new(tmp_path / "deep" / "run")
            raise error or KeyError
        assert not list(tmp_path.iterdir())
    with held_workdir(tmp_path / "run"):
        (tmp_path / "run" / "config.json").touch()
    assert os.listdir(tmp_path / "run") == ["config.json"]


def test_a_run_that_was_killed_before_it_had_a_config_starts_again(tmp_path):
    (tmp_path / STAGING).mkdir()
    (tmp_path / LOCK).write_text("process 1 on host a since 2026-11-27 16:20:11 UTC\n")
    assert is_new(tmp_path)
    with held_workdir(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_stays_as_it_is(tmp_path):
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ConfigError, match="is not the folder of a run"), held_workdir(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["letter.txt"]
    shutil.rmtree(tmp_path)
    tmp_path.touch()
    with pytest.raises(OSError, match="Not a directory"), held_workdir(tmp_path):
        pass


@pytest.mark.parametrize("failed", [0, 1])
def test_the_other_processes_of_a_run_take_no_lock_and_end_with_the_first(
    tmp_path, monkeypatch, failed
):
    def broadcast(mine: np.ndarray) -> np.ndarray:
        assert mine == 0
        return np.int32(failed)

    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)
    with lock(tmp_path / LOCK):  # that of the first process
        if failed:
            with pytest.raises(ConfigError, match="the first process cannot use it"):
                by_first(lambda: pytest.fail(), tmp_path)
        else:
            with held_workdir(tmp_path):
                pass
