"""Folders that want to do harm: each is refused in one line, within seconds."""

import importlib
import re
import shutil
import signal
import unicodedata
from pathlib import Path

import pytest

from scripts.trials.hostile_folders import HOSTILE_FOLDERS

BASE = Path(__file__).parents[3] / "checkpoints" / "base"
SECONDS = 60  # on a busy machine


@pytest.fixture
def alarm():
    """Ends a test that waits for something that never comes."""

    def ring(*_) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_names_are_unique():
    assert len({case.name for case in HOSTILE_FOLDERS}) == len(HOSTILE_FOLDERS)


@pytest.mark.parametrize("case", HOSTILE_FOLDERS, ids=lambda case: case.name)
def test_it_is_refused_in_one_line(case, tmp_path, capsys, alarm):
    folder = tmp_path / "folder"
    shutil.copytree(BASE, folder, ignore=shutil.ignore_patterns("log"))
    case.prepare(folder)
    module, *flags = case.argv(folder)
    capsys.readouterr()
    assert importlib.import_module(module).main([module, *flags]) == 2
    said = capsys.readouterr()
    line = said.err.splitlines()[-1]
    assert line.startswith("error: ") and re.search(case.word, line), said.err
    assert said.out == "" and not (tmp_path / "folder-out").exists()
    foreign = [c for c in said.err if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
    assert foreign == []
