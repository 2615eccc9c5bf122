"""Checkpoints of the same shape have different fingerprints, and a moved one has the same."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import keystr
from jax.tree_util import tree_leaves_with_path as leaves_with_path
from safetensors.numpy import load_file, save_file

from data.text.tokenizer import DEFAULT_PATH
from diffusiongemma.formats.load_save import load_opened
from sample.checkpoint import Checkpoint
from sample.command.checkpoint_id import LENGTH, _checksum, fingerprint
from sample.split_model import split
from tests.diffusiongemma.formats.folders import GOLDEN

BASE = GOLDEN / "hf_six"


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(BASE, tmp_path / "copy")


@pytest.fixture(scope="module")
def model():
    return split(load_opened(Checkpoint.open(BASE).stored, None))


def changed(model, name, change):
    """The model with a change to the array of this name."""
    path, old = next((p, x) for p, x in leaves_with_path(model.state) if name in keystr(p))
    state = jax.tree_util.tree_map_with_path(
        lambda p, x: change(x) if p == path else x, model.state
    )
    assert (change(old) != old).sum() == 1
    return type(model).join(model.structure, state)


def test_what_matters_changes_it(copy, model):
    def of(model, tokenizer=None, folder=copy):
        return fingerprint(Checkpoint.open(folder), model, tokenizer)

    whole = of(model)
    assert len(whole) == LENGTH and of(model, folder=BASE) == whole
    half = jax.tree.map(lambda x: x.astype("bfloat16"), model.state)
    found = {whole, of(type(model).join(model.structure, half))}
    (copy / "chat_template.jinja").write_text("Hi!")
    found.add(with_template := of(model))
    text = DEFAULT_PATH.read_text()
    (copy / "tokenizer.json").write_text(f"{text}\n")
    found.add(of(model))
    assert of(model, str(DEFAULT_PATH.parent)) == with_template
    # One element anywhere, by so little that bfloat16 would not see it.
    for name in ("router", "down"):
        last = changed(model, name, lambda x: x.ravel().at[-1].mul(1 + 2e-7).reshape(x.shape))
        found.add(of(last))
    assert len(found) == 6


def test_a_factor_changes_it(tmp_path):
    folder = shutil.copytree(GOLDEN / "peft_six", tmp_path / "adapter")
    file, found = folder / "adapter_model.safetensors", set()
    for more in (0, 1e-6):
        factors = load_file(file)
        for key in (key for key in factors if "layers.0.router.proj.lora_B" in key):
            factors[key].flat[-1] += more
        save_file(factors, file, {"format": "pt"})
        checkpoint = Checkpoint.open(folder, base=BASE)
        loaded = load_opened(checkpoint.stored, checkpoint.adapter)
        found.add(fingerprint(checkpoint, split(loaded)))
    assert len(found) == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_a_sum_sees_each_element_and_its_place(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(jnp.dtype(dtype))
    one_more = [array + one for one in np.eye(24).reshape(24, 2, 3, 4).astype(array.dtype)]
    others = [*one_more, -array, array[::-1], array[:, ::-1], array.T.reshape(array.shape)]
    assert len({int(_checksum(x)) for x in [array, *others]}) == 1 + len(others)
