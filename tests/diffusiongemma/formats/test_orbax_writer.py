"""Trees that are written a few arrays at a time."""

import pytest

from diffusiongemma.formats import orbax_writer
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.load_save import convert_checkpoint
from tests.diffusiongemma.formats.folders import assert_same_tensors


def test_orbax_saves_leaves_in_batches(two, tmp_path, monkeypatch):
    monkeypatch.setattr(orbax_writer, "BATCH_BYTES", 20_000)
    convert_checkpoint(two, tmp_path / "other", "orbax")
    convert_checkpoint(tmp_path / "other", tmp_path / "back", "hf")
    assert_same_tensors(two, tmp_path / "back")


def test_failure_while_orbax_saves_leaves_nothing(two, tmp_path, monkeypatch):
    def failing(tensor, weights):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffusiongemma.formats.google.assembled", failing)
    with pytest.raises(CheckpointError, match="No space left on device"):
        convert_checkpoint(two, tmp_path / "new" / "out", "google")
    assert not list(tmp_path.iterdir())
