"""Weights into a model and out of it: where they go, and what must not be published."""

import jax
import ml_dtypes
import numpy as np
import pytest

from diffusiongemma.formats.load_save import load_checkpoint
from tests.diffusiongemma.formats.folders import GOLDEN, read_all, refusal, weights, write_tensors


def test_sharding_is_asked_for_every_parameter():
    asked = []

    def sharding(path, shape):
        asked.append((path, shape))
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])

    model = load_checkpoint(GOLDEN / "hf_six", sharding=sharding)
    assert len(asked) == len(weights(model))
    assert ("layers.5.moe.gate_up.kernel", (4, 32, 16)) in asked


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tensors_that_are_not_finite_are_named(folder, bad, dtype):
    tensors = {k: v.astype(dtype) for k, v in read_all(folder).items()}
    for name in ("model.decoder.layers.3.experts.down_proj", "model.decoder.norm.weight"):
        tensors[name].flat[-1] = bad
    write_tensors(folder, tensors)
    message = refusal(folder)
    assert "inf or nan (2)" in message
    assert "model.decoder.layers.3.experts.down_proj" in message
    assert "model.decoder.norm.weight" in message


def test_overflow_of_a_narrower_dtype_is_named(folder):
    tensors = read_all(folder)
    tensors["model.decoder.norm.weight"][0] = 1e6
    write_tensors(folder, tensors)
    load_checkpoint(folder)
    assert "inf or nan (1): model.decoder.norm.weight" in refusal(folder, dtype=np.float16)
