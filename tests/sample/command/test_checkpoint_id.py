"""Checkpoints of the same shape have different fingerprints, and a moved one has the same."""

import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data.text.tokenizer import DEFAULT_PATH
from diffusiongemma.formats.weights import Quantization
from sample.checkpoint import Checkpoint
from sample.command.checkpoint_id import fingerprint
from tests.diffusiongemma.formats.folders import GOLDEN

BASE = GOLDEN / "hf_six"


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(BASE, tmp_path / "copy")


def of(folder, *arguments, **options) -> str:
    return fingerprint(Checkpoint.open(folder, **options), *arguments)


def change_by_little(folder, name):
    """Changes one element so little that bfloat16 does not see it."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    key = next(key for key in tensors if name in key)
    tensors[key].flat[0] *= 1 + 2**-20
    save_file(tensors, file)


def stub(place, **changes) -> SimpleNamespace:
    """The golden checkpoint in a folder, with changes to its Stored."""
    real = Checkpoint.open(BASE)
    stored = dataclasses.replace(real.stored, **changes)
    parts = {"adapter": None, "config": real.config, "companions": {}}
    return SimpleNamespace(folder=place, stored=stored, **parts)


def test_what_matters_changes_it(copy):
    whole = of(BASE)
    assert len(whole) == 16 and of(copy) == whole
    quantized = Quantization("int8", np.dtype(np.float32))
    found = {whole, of(copy, "bfloat16"), fingerprint(stub(BASE, quantized=quantized))}
    found.add(of(GOLDEN / "peft_six", base=BASE))
    (copy / "chat_template.jinja").write_text("Hi!")
    found.add(with_template := of(copy))
    text = DEFAULT_PATH.read_text()
    (copy / "tokenizer.json").write_text(f"{text}\n")
    found.add(of(copy))
    assert of(copy, None, str(DEFAULT_PATH.parent)) == with_template
    change_by_little(copy, "router.scale")
    found.add(of(copy))
    assert len(found) == 7


def test_a_factor_changes_it(tmp_path):
    folder = shutil.copytree(GOLDEN / "peft_six", tmp_path / "adapter")
    before = of(folder, base=BASE)
    file = folder / "adapter_model.safetensors"
    factors = load_file(file)
    for key in (key for key in factors if "layers.0.router.proj.lora_B" in key):
        factors[key].flat[-1] += 1e-6
    save_file(factors, file, {"format": "pt"})
    assert of(folder, base=BASE) != before


def test_the_step_of_a_run_changes_it(tmp_path):
    steps = tmp_path / "checkpoints"
    steps.mkdir()
    first, same, second = (
        fingerprint(stub(tmp_path, folder=steps / name)) for name in ("20", "20", "40")
    )
    assert first == same != second
