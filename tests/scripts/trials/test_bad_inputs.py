"""Every bad input of the table is refused in one line that says what is wrong."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import jax
import pytest

from scripts.trials.bad_input import tiny_checkpoint
from scripts.trials.bad_inputs import BAD_INPUTS
from tests.train.runs import ROOT


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_checkpoint(folder)
    return folder


def test_names_are_unique():
    assert len({bad.name for bad in BAD_INPUTS}) == len(BAD_INPUTS)


# ml_collections loads the config file by a function that is deprecated.
@pytest.mark.filterwarnings("ignore:the load_module")
@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input(bad, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    # Commands run in one process here, whose devices are there already.
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # the config file before
    update = jax.config.update
    fixed = ("jax_num_cpu_devices", "jax_platforms")
    monkeypatch.setattr(jax.config, "update", lambda k, v: None if k in fixed else update(k, v))
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    bad.prepare(folder)
    module, *flags = bad.argv(folder)
    capsys.readouterr()
    status = importlib.import_module(module).main([module, *flags])
    *before, said = capsys.readouterr().err.splitlines()
    assert status == 2
    assert said.startswith("error: ") and re.search(bad.word, said), said
    assert not [line for line in before if "Traceback" in line]
    assert not (folder / "run" / "checkpoints").exists()
