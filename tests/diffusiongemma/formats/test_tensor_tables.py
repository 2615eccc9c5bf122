"""The key tables: complete, bit-exact both ways, and Google's names and shapes."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.tensor_tables import GOOGLE, HF, file_tensors
from diffusiongemma.parameters import OURS
from diffusiongemma.transformer import DiffusionGemma

GOLDEN = Path(__file__).parents[2] / "golden"


def test_tables_cover_every_parameter_of_the_network_once():
    config = ModelConfig.preset("tiny")
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    shapes = {".".join(map(str, p)): v.shape for p, v in nnx.to_flat_state(nnx.state(model))}
    for table in (HF, GOOGLE):
        params = {}
        for tensor in file_tensors(config, table).values():
            zeros = np.zeros(tensor.shape)
            for path, value in tensor.to_params(zeros).items():
                assert path not in params
                params[path] = value.shape
        assert params == shapes
    assert {p for row in HF for p in row.params} == set(OURS)


@pytest.mark.parametrize("table", [HF, GOOGLE], ids=["hf", "google"])
def test_every_tensor_comes_back_bit_by_bit(table):
    config = ModelConfig.preset("tiny")
    rng = np.random.default_rng(0)
    for tensor in file_tensors(config, table).values():
        array = rng.normal(size=tensor.shape).astype(ml_dtypes.bfloat16)
        again = tensor.from_params(tensor.to_params(array))
        assert again.shape == array.shape and again.tobytes() == array.tobytes(), tensor.name


def test_google_names_and_shapes_are_those_of_the_26b_model():
    official = json.loads((GOLDEN / "google_tree_26b.json").read_text())
    ours = file_tensors(ModelConfig.preset("26b_a4b"), GOOGLE)
    assert {k: list(v.shape) for k, v in ours.items()} == {k: v[0] for k, v in official.items()}


def test_google_format_has_one_layer_scalar_and_refuses_two_that_differ():
    tensor = file_tensors(ModelConfig.preset("tiny"), GOOGLE)["layer_0/skip_scale"]
    params = {"layers.0.encode_scalar": np.ones(1), "layers.0.denoise_scalar": np.ones(1)}
    np.testing.assert_array_equal(tensor.from_params(params), np.ones(1))
    with pytest.raises(ValueError, match="layer_0/skip_scale is one tensor"):
        tensor.from_params(params | {"layers.0.encode_scalar": np.zeros(1)})
