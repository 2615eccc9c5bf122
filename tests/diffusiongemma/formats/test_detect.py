"""The registry of formats: which format a folder is in, and what it takes to add one."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from diffusiongemma.formats import detect
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.config_file import CONFIG
from diffusiongemma.formats.detect import companion_folder, open_checkpoint, recognise
from diffusiongemma.formats.format import Format
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint, save_checkpoint
from scripts import convert
from tests.diffusiongemma.formats.folders import (
    assert_same,
    assert_same_tensors,
    make_folder,
    refusal,
    weights,
)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def test_folder_without_config_or_weights_is_refused(folder, tmp_path):
    assert refusal(tmp_path / "nowhere").endswith("no such folder")
    (folder / "config.json").rename(tmp_path / "config.json")
    assert refusal(folder).endswith("no config.json")
    (folder / "config.json").write_text("{")
    assert "config.json: not JSON" in refusal(folder)
    (folder / "model.safetensors").unlink()
    said = refusal(folder)
    assert said.startswith(f"{folder}: holds no checkpoint in a known format: ")
    assert all(f"{format.name} ({format.description})" in said for format in detect.FORMATS)


def test_the_checkpoints_in_a_folder_are_named(two, adapter, tmp_path):
    """A cache of the Hugging Face hub, the output of a trainer, an adapter with a name."""
    cache = tmp_path / "cache"
    for inside in ("models--google--gemma/snapshots/0a1b", "run/checkpoint-10", "named/default"):
        (cache / inside).parent.mkdir(parents=True)
        (cache / inside).symlink_to(adapter if "named" in inside else two)
        folder = cache / Path(inside).parts[0]
        named = f"is no checkpoint but holds some: name one: {cache / inside}"
        assert refusal(folder) == f"{folder}: {named}"
    assert refusal(folder.parent / "run").endswith("checkpoint-10")
    said = "google/diffusiongemma: no such folder: download the model first"
    assert refusal(Path("google/diffusiongemma")) == said


def test_every_format_is_recognised_in_its_own_folder(two, adapter, tmp_path):
    for name in detect.whole_formats():
        convert_checkpoint(two, tmp_path / name, name)
        assert recognise(tmp_path / name).name == name
    assert recognise(adapter).name == "peft"
    assert recognise(tmp_path) is None


def test_companions_of_a_folder_without_a_checkpoint_are_looked_for_in_it(two, adapter, tmp_path):
    assert companion_folder(tmp_path) == tmp_path
    assert companion_folder(two) == two
    assert companion_folder(adapter) == two
    (adapter / "tokenizer.json").touch()
    assert companion_folder(adapter) == adapter
    with pytest.raises(CheckpointError, match="no such folder"):
        companion_folder(tmp_path / "nowhere")


def test_a_format_takes_its_library_only_when_it_is_used(two):
    """A subprocess: here, other tests have imported everything."""
    lines = f"""
import sys

def loaded():
    return [name for name in ("orbax", "tensorstore", "safetensors") if name in sys.modules]

from diffusiongemma.formats.detect import open_checkpoint
import diffusiongemma.formats.load_save
assert loaded() == [], loaded()
open_checkpoint({str(two)!r})
assert loaded() == ["safetensors"], loaded()
"""
    subprocess.run([sys.executable, "-c", lines], check=True)


# docs/FORMATS.md shows a whole new format, of one .npz file. The tests below run that text.

FILE = "parameters.npz"


def format_of_the_docs() -> Format:
    """The FORMAT that the example in docs/FORMATS.md defines."""
    text = (Path(__file__).parents[3] / "docs" / "FORMATS.md").read_text()
    (example,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "FORMAT = Format(" in block
    )
    module: dict[str, Any] = {}
    exec(compile(example, "docs/FORMATS.md", "exec"), module)
    return module["FORMAT"]


NPZ = format_of_the_docs()


def test_a_new_format_is_one_object_and_one_line(two, adapter, tmp_path, monkeypatch, capsys):
    six = make_folder(tmp_path / "six", "six")
    with pytest.raises(CheckpointError, match="format npz: expected one of peft, hf, "):
        convert_checkpoint(six, tmp_path / "npz", "npz")
    monkeypatch.setattr(detect, "FORMATS", (*detect.FORMATS, NPZ))

    convert_checkpoint(six, tmp_path / "npz", "npz")
    assert recognise(tmp_path / "npz") is NPZ
    assert open_checkpoint(tmp_path / "npz")[1] is None
    assert_same(load_checkpoint(tmp_path / "npz"), load_checkpoint(six))
    save_checkpoint(load_checkpoint(six), tmp_path / "saved", format="npz")
    assert_same(load_checkpoint(tmp_path / "saved"), load_checkpoint(six))
    for name in ("hf", "google", "orbax"):
        convert_checkpoint(tmp_path / "npz", tmp_path / name, name)
        assert_same(load_checkpoint(tmp_path / name), load_checkpoint(six))
    assert_same_tensors(tmp_path / "hf", six)
    convert_checkpoint(adapter, tmp_path / "merged", "npz", dtype="float32")
    assert recognise(tmp_path / "merged") is NPZ

    # The command and all error texts know it too.
    def command(*arguments: str) -> tuple[int, str]:
        status = convert.main(["convert", *arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    assert "npz (parameters.npz and config.json)" in " ".join(command("--help")[1].split())
    source, target = f"--from={tmp_path / 'orbax'}", f"--to={tmp_path / 'again'}"
    assert command(source, target, "--format=npz") == (0, f"wrote {tmp_path / 'again'}\n")
    assert_same(load_checkpoint(tmp_path / "again"), load_checkpoint(six))
    assert "hf|google|orbax|npz" in command()[1]
    (tmp_path / "again" / FILE).unlink()
    assert "npz (parameters.npz and config.json)" in refusal(tmp_path / "again")
    assert refusal(tmp_path / "npz", config="tiny").endswith("its own config: leave out --config")
    with pytest.raises(CheckpointError, match="only orbax holds quantized weights, not npz"):
        convert_checkpoint(six, tmp_path / "out", "npz", quantize="int8")
    np.savez(tmp_path / "npz" / FILE, extra=np.zeros(1, np.float32))
    assert "extra (1): extra" in refusal(tmp_path / "npz")


def test_the_new_format_keeps_every_dtype(two, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "FORMATS", (*detect.FORMATS, NPZ))
    three = make_folder(tmp_path / "three", "three")
    for source in (two, three):  # all in bfloat16; matrices in bfloat16 and vectors in float32
        npz, back = tmp_path / f"{source.name}_npz", tmp_path / f"{source.name}_back"
        convert_checkpoint(source, npz, "npz")
        convert_checkpoint(npz, back, "hf")
        assert_same_tensors(back, source)
        assert_same(load_checkpoint(npz), load_checkpoint(source))
        assert json.loads((npz / CONFIG).read_text())["dtype"] == (
            "bfloat16" if source == two else "float32"
        )
    assert {v.dtype for v in weights(load_checkpoint(tmp_path / "two_npz")).values()} == {BFLOAT16}
    for dtype in ("float32", "bfloat16", "float16"):
        convert_checkpoint(three, tmp_path / dtype, "npz", dtype=dtype)
        loaded = load_checkpoint(tmp_path / dtype)
        assert {v.dtype for v in weights(loaded).values()} == {np.dtype(dtype)}
        assert_same(loaded, load_checkpoint(three, dtype=dtype))
    convert_checkpoint(adapter, tmp_path / "merged_hf", "hf")
    convert_checkpoint(adapter, tmp_path / "merged_npz", "npz")
    assert_same(load_checkpoint(tmp_path / "merged_npz"), load_checkpoint(tmp_path / "merged_hf"))

    file = tmp_path / "two_npz" / FILE
    file.write_bytes(file.read_bytes()[:1000])
    assert f"{FILE}: cannot be read" in refusal(tmp_path / "two_npz")
