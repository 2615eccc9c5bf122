"""Images and videos that want to do harm are refused in one line; odd and good ones are read."""

import importlib
import re
import shutil
import unicodedata

import numpy as np
import pytest

from data.images.open_image import open_image
from scripts.trials.hostile_media import (
    CHECKPOINT,
    HOSTILE_LINES,
    HOSTILE_MEDIA,
    odd_pictures,
    picture,
)
from tests.train.runs import ROOT

CHECKPOINT_FILES = [file for file in (ROOT / CHECKPOINT).iterdir() if file.is_file()]


def asked(case, folder, capsys):
    """The exit status and the lines on stderr, in a copy of the checkpoint."""
    for file in CHECKPOINT_FILES:
        shutil.copy(file, folder)
    case.prepare(folder)
    module, *flags = case.argv(folder)
    capsys.readouterr()
    status = importlib.import_module(module).main([module, *flags])
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert [c for c in said.err if unicodedata.category(c) == "Cc" and c != "\n"] == []
    return status, said.err.splitlines()


def test_names_are_unique():
    assert len({case.name for case in HOSTILE_MEDIA}) == len(HOSTILE_MEDIA)


@pytest.mark.parametrize("case", HOSTILE_MEDIA, ids=lambda case: case.name)
def test_it_is_refused_in_one_line(case, tmp_path, capsys):
    status, lines = asked(case, tmp_path, capsys)
    assert status == 2 and lines[-1].startswith("error: ")
    assert re.search(case.word, lines[-1]), lines[-1]


@pytest.mark.parametrize("case", HOSTILE_LINES[:2], ids=lambda case: case.name)
def test_a_line_is_refused_by_its_number(case, tmp_path, capsys):
    status, lines = asked(case, tmp_path, capsys)
    assert status == 1
    [line] = [line for line in lines if "line 1: " in line]
    assert re.search(case.word, line) and len(line) < 500


@pytest.mark.parametrize(("name", "data"), list(odd_pictures()), ids=lambda x: str(x)[:20])
def test_odd_pictures_are_read(name, data):
    found = np.asarray(open_image(data)).astype(int)
    assert np.abs(found - np.asarray(picture()).astype(int)).max() < 12
