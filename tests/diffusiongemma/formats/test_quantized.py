"""Quantized checkpoints: to the bit what the model is, and what they are refused for."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma.formats import quantized as module
from diffusiongemma.formats.adapter import fingerprint
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.load_save import (
    convert_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from diffusiongemma.lora import add_lora
from diffusiongemma.ops.quantized import QuantizedParam
from diffusiongemma.quantized_model import quantize_model, quantized_precision
from tests.diffusiongemma.formats.folders import assert_same, make_folder, refusal, save_run


def values(model) -> dict[str, np.ndarray]:
    state = nnx.to_flat_state(nnx.state(model, QuantizedParam))
    return {".".join(map(str, path)): np.asarray(value.get_value()) for path, value in state}


def assert_equal(one, other) -> None:
    """Both models have the same weights, quantized and not, to the bit."""
    assert_same(one, other)
    one, other = values(one), values(other)
    assert one.keys() == other.keys() and one
    for key, value in one.items():
        assert value.dtype == other[key].dtype and value.tobytes() == other[key].tobytes(), key


@pytest.fixture(scope="module")
def folders(two, tmp_path_factory) -> dict[str, Path]:
    """precision -> the checkpoint "two" in it."""
    home = tmp_path_factory.mktemp("quantized")
    for precision in ("int8", "int4"):
        convert_checkpoint(two, home / precision, "orbax", quantize=precision)
    return {precision: home / precision for precision in ("int8", "int4")}


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_converted_checkpoint_is_the_quantized_model(two, folders, tmp_path, precision):
    model = load_checkpoint(folders[precision])
    assert quantized_precision(model) == precision and model.dtype == jnp.bfloat16
    assert_equal(model, quantize_model(load_checkpoint(two), precision))
    # Stored again, by a model or by a conversion, it stays as it is.
    save_checkpoint(model, tmp_path / "saved", format="orbax")
    convert_checkpoint(folders[precision], tmp_path / "again", "orbax")
    for folder in (tmp_path / "saved", tmp_path / "again"):
        assert_equal(load_checkpoint(folder), model)
    # Another dtype is that of all the rest.
    wider = load_checkpoint(folders[precision], jnp.float32)
    assert wider.dtype == wider.final_norm.scale.dtype == jnp.float32
    for key, value in values(wider).items():
        assert value.tobytes() == values(model)[key].tobytes()


def test_part_by_part_is_the_same(two, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 500)  # one expert, or twenty tokens
    convert_checkpoint(two, tmp_path / "parts", "orbax", quantize="int4")
    assert_equal(load_checkpoint(tmp_path / "parts"), load_checkpoint(folders["int4"]))


def test_it_keeps_the_fingerprint_of_what_it_was_made_from(two, folders, tmp_path):
    known = fingerprint(open_checkpoint(two)[0])
    convert_checkpoint(folders["int8"], tmp_path / "again", "orbax")
    for folder in (*folders.values(), tmp_path / "again"):
        assert fingerprint(open_checkpoint(folder)[0]) == known


def test_factors_lie_beside_quantized_weights_and_are_merged_into_others(two, folders, tmp_path):
    base = folders["int4"]
    model = load_checkpoint(base)
    pattern = r"attention\.q$|gate_up"
    add_lora(model, 2, 4.0, rngs=nnx.Rngs(1), pattern=pattern)
    lora = {"rank": 2, "alpha": 4.0, "pattern": pattern}
    origin = {"init": str(base), "base_fingerprint": fingerprint(open_checkpoint(base)[0])}
    save_run(tmp_path / "run", model, nnx.LoRAParam, lora, **origin)
    assert_equal(load_checkpoint(tmp_path / "run"), model)
    convert_checkpoint(tmp_path / "run", tmp_path / "adapter", "peft")
    assert_equal(load_checkpoint(tmp_path / "adapter"), model)
    for format in ("hf", "orbax"):
        with pytest.raises(CheckpointError, match=r"factors cannot be merged into them: .*--base"):
            convert_checkpoint(tmp_path / "run", tmp_path / "out", format)
    with pytest.raises(CheckpointError, match="merge them first, then quantize"):
        convert_checkpoint(tmp_path / "run", tmp_path / "out", "orbax", base=two, quantize="int8")
    assert not (tmp_path / "out").exists()
    convert_checkpoint(tmp_path / "run", tmp_path / "out", "hf", base=two)
    assert quantized_precision(load_checkpoint(tmp_path / "out")) is None


def test_what_is_refused(two, folders, tmp_path):
    def said(source, format="orbax", **options) -> str:
        with pytest.raises(ValueError) as caught:
            convert_checkpoint(source, tmp_path / "out", format, **options)
        assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)
        return str(caught.value)

    message = "quantize: only orbax holds quantized weights, not hf"
    assert said(two, "hf", quantize="int8") == message
    assert said(two, quantize="int2") == "quantize int2: expected one of int8, int4"
    eight = folders["int8"]
    assert said(eight, quantize="int4") == f"{eight}: its weights are quantized already"
    for format in ("hf", "google"):
        message = f"{eight}: its weights are quantized, and {format} cannot hold such weights"
        assert said(eight, format).startswith(message)
    model = load_checkpoint(eight)
    with pytest.raises(CheckpointError, match="model: its weights are quantized, and hf"):
        save_checkpoint(model, tmp_path / "out")
    three = make_folder(tmp_path / "three", "three")
    assert said(three, quantize="int4") == "int4 packs rows in pairs, and 15 is odd: take int8"
    tensors = load_file(three / "model.safetensors")
    tensors["model.decoder.layers.0.mlp.up_proj.weight"][3, 1] = np.nan
    save_file(tensors, three / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"inf or nan \(1\): .*0\.mlp\.up_proj"):
        convert_checkpoint(three, tmp_path / "out", "orbax", quantize="int8")


@pytest.mark.parametrize(
    "about, said",
    [
        ({"precision": "int2", "fingerprint": ""}, "does not describe a model: quantized as int2"),
        ({"precision": "int8", "fingerprint": ""}, "gate_up.kernel.values is [5, 12, 24], not"),
        (None, "missing"),
    ],
)
def test_a_wrong_description_is_refused(folders, tmp_path, about, said):
    folder = Path(shutil.copytree(folders["int4"], tmp_path / "own"))
    file = folder / "model" / "metadata"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"quantized": about}))
    assert said in refusal(folder)
