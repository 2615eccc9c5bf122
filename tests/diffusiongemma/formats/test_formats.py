"""The formats into each other and back, to the bit."""

from pathlib import Path

import jax.numpy as jnp
import pytest

from diffusiongemma.formats import hf
from diffusiongemma.formats.load_save import (
    convert_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    assert_same,
    assert_same_tensors,
    make_folder,
)


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory) -> Path:
    """A released folder of each shape; tests leave it as it is."""
    return make_folder(tmp_path_factory.mktemp("formats") / request.param, request.param)


@pytest.mark.parametrize(
    "format, options",
    [("google", {}), ("google", {"flat": True}), ("orbax", {})],
    ids=["google", "google-flat", "orbax"],
)
def test_round_trip_through_another_format_changes_no_bit(folder, tmp_path, format, options):
    convert_checkpoint(folder, tmp_path / "other", format, **options)
    assert not list((tmp_path / "other").glob("*.safetensors"))
    convert_checkpoint(tmp_path / "other", tmp_path / "back", "hf")
    assert_same_tensors(folder, tmp_path / "back")
    configs = [hf.read_config(f / "config.json") for f in (folder, tmp_path / "back")]
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
