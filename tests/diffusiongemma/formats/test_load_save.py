"""Loading, saving and converting: the formats into each other and back, and failures."""

import json
import resource
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import pytest
from flax import nnx

from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.config_file import read_config
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint, save_checkpoint
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    GOLDEN,
    assert_same,
    assert_same_tensors,
    make_folder,
    read_all,
)


@pytest.fixture(scope="module", params=CONFIGS)
def released(request, tmp_path_factory) -> Path:
    """A folder in the released layout of each shape; tests leave it as it is."""
    return make_folder(tmp_path_factory.mktemp("formats") / request.param, request.param)


@pytest.mark.parametrize(
    "format, options",
    [("google", {}), ("google", {"flat": True}), ("orbax", {})],
    ids=["google", "google-flat", "orbax"],
)
def test_round_trip_through_another_format_changes_no_bit(released, tmp_path, format, options):
    convert_checkpoint(released, tmp_path / "other", format, **options)
    assert not list((tmp_path / "other").glob("*.safetensors"))
    convert_checkpoint(tmp_path / "other", tmp_path / "back", "hf")
    assert_same_tensors(released, tmp_path / "back")
    configs = [read_config(f / "config.json") for f in (released, tmp_path / "back")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("format", ["hf", "google", "orbax"])
def test_saved_model_loads_from_every_format(two, tmp_path, format):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "out", format=format)
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.config == model.config
    assert_same(loaded, model)


@pytest.mark.parametrize("format", ["hf", "google", "orbax"])
def test_conversion_casts_on_request(two, tmp_path, format):
    convert_checkpoint(two, tmp_path / "out", format, dtype="float32")
    loaded = load_checkpoint(tmp_path / "out")
    assert_same(loaded, load_checkpoint(two, jnp.float32))


def test_save_casts_on_request(tmp_path):
    save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path, "bfloat16")
    before, after = read_all(GOLDEN / "hf_six"), read_all(tmp_path)
    for key, value in after.items():
        assert value.tobytes() == before[key].astype(ml_dtypes.bfloat16).tobytes(), key
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_failed_save_leaves_what_was_there(tmp_path):
    """The file size limit stands for a full disk: a write that fails half-way."""
    model = load_checkpoint(GOLDEN / "hf_six")
    old = tmp_path / "old"
    save_checkpoint(load_checkpoint(GOLDEN / "hf_twelve"), old)
    before = {f.name: f.read_bytes() for f in old.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for path in (old, tmp_path / "new" / "folder"):
            with pytest.raises(CheckpointError, match=r"could not be saved: File too large$"):
                save_checkpoint(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {f.name: f.read_bytes() for f in old.iterdir()} == before
    assert [f.name for f in tmp_path.iterdir()] == ["old"]


def test_save_refuses_what_the_format_cannot_hold(tmp_path):
    model = load_checkpoint(GOLDEN / "hf_six")
    model.layers[0].attention.q.lora_a = nnx.LoRAParam(jnp.zeros((32, 2)))
    with pytest.raises(CheckpointError, match=r"no place in the format \(1\): layers\.0\..*lora_a"):
        save_checkpoint(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_save_to_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be saved: File exists"):
        save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path / "file")
