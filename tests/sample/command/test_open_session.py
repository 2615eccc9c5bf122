"""Settings of a session: the checkpoint's, and flags that win over them."""

import json
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from sample import AutoregressiveConfig, SamplerConfig
from sample.command.flags import define_flags
from sample.command.open_session import open_session
from tests.sample.asking import CANVAS, run


def test_the_folders_defaults_and_flags(folder, tmp_path):
    model = Path(shutil.copytree(folder, tmp_path / "model"))
    given = {"max_denoising_steps": 7, "max_new_tokens": 20, "eos_token_id": [1, 106]}
    (model / "generation_config.json").write_text(json.dumps(given))
    values = define_flags()
    values(["main", f"--checkpoint={model}", "--max_steps=5", "--top_k=3", "--noearly_stop"])
    session = open_session(values)
    assert session.sampler == SamplerConfig(
        max_steps=5, max_new_tokens=20, stop_ids=(1, 106), early_stop=False
    )
    assert session.autoregressive == AutoregressiveConfig(20, top_k=3, stop_ids=(1, 106))


def test_none_and_nothing(folder):
    values = define_flags()
    values(["main", f"--checkpoint={folder}", "--prefill_chunk=None", "--system= "])
    session = open_session(values)
    assert session.sampler == SamplerConfig(prefill_chunk=None)
    assert session.autoregressive == AutoregressiveConfig(CANVAS, prefill_chunk=None)
    assert session.system is None


def test_an_overflow_of_float16_names_the_flag(folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["model.decoder.norm.weight"] += 1e6
    save_file(tensors, other / "model.safetensors")
    assert run(other, "--prompt=a", "--dtype=float16") == 2
    assert "error: --dtype=float16 makes inf of numbers above 65,504" in capsys.readouterr().err
