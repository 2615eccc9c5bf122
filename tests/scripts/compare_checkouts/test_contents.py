"""Results as pieces of bytes: what differs is found, and times of writing are left out."""

import json

import numpy as np
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from scripts.compare_checkouts import contents


def test_arrays_differ_in_value_dtype_and_shape(tmp_path):
    def of(**arrays):
        np.savez(tmp_path / "arrays.npz", **arrays)
        return contents.of_arrays(tmp_path / "arrays.npz")

    first = of(a=np.float32([0.0, 1.0]), b=np.int32([[3]]), missing=None)
    assert first == of(a=np.float32([0.0, 1.0]), b=np.int32([[3]]), missing=None)
    assert contents.differences(first, of(a=np.float32([0.0, 1.0]), b=np.int32([[4]]))) == [
        "b [1, 1]",
        "missing []",
    ]
    close = of(a=np.float32([0.0, np.nextafter(np.float32(1), 0)]), b=np.int32([[3]]), missing=None)
    assert contents.differences(first, close) == ["a [2]"]
    wide = of(a=np.float64([0.0, 1.0]), b=np.int32([[3]]), missing=None)
    assert contents.differences(first, wide) == ["a [2]"]
    assert contents.digest(first) != contents.digest(close)


def test_figures_of_steps_without_their_times(tmp_path):
    def of(seconds, loss):
        line = json.dumps({"step": 1, "loss": loss, "seconds": seconds})
        (tmp_path / "metrics.jsonl").write_text(line + "\n")
        return contents.of_metrics(tmp_path / "metrics.jsonl")

    assert of(1.5, 0.25) == of(0.0, 0.25) == {"step 1: loss": b"0.25"}
    assert of(1.5, 0.25) != of(1.5, 0.25000001)


def test_an_orbax_checkpoint_is_its_keys_and_values(tmp_path):
    config = ModelConfig.preset("tiny", layer_types=("full",))
    model = DiffusionGemma(config, rngs=nnx.Rngs(0))
    for name in ("one", "other"):
        save_checkpoint(model, tmp_path / name, format="orbax")
    one, other = (contents.of_folder(tmp_path / name) for name in ("one", "other"))
    assert one == other
    # The store's files have random names; none is among the pieces.
    assert not any("manifest" in name or "/d/" in name for name in one)
    assert any(":" in name and "embedding" in name for name in one)
    scale = model.final_norm.scale
    scale[...] = scale[...] + 1e-6
    save_checkpoint(model, tmp_path / "changed", format="orbax")
    [name] = contents.differences(one, contents.of_folder(tmp_path / "changed"))
    assert "final_norm" in name
