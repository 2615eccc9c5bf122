"""The command train.main refuses wrong flags in one line."""

import pytest

from tests.train.runs import ROOT
from train.main import main


# ml_collections loads the config file by a function that is deprecated.
@pytest.mark.filterwarnings("ignore:the load_module")
def test_nojit_is_for_one_device(tmp_path, capsys):
    arguments = [f"--config={ROOT / 'configs' / 'base.py'}", f"--workdir={tmp_path / 'run'}"]
    assert main(["main", *arguments, "--nojit"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --nojit runs on one device: give --config.mesh.data=1 ")
    assert said.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:the load_module")
def test_fields_of_the_config_take_hyphens(tmp_path, capsys):
    config, run = ROOT / "configs" / "sudoku.py", tmp_path / "run"
    arguments = [f"--config={config}", f"--workdir={run}", "--config.batch-size=3"]
    assert main(["main", *arguments, "--config.loss.num-canvases=abc"]) == 2
    assert "config loss.num_canvases: expected int, got 'abc'" in capsys.readouterr().err
