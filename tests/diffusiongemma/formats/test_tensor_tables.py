"""The key tables: complete, bit-exact both ways, and Google's names and shapes."""

import dataclasses
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.tensor_tables import GOOGLE, HF, file_tensors
from diffusiongemma.formats.vision_tables import GOOGLE_PREFIXES
from diffusiongemma.parameters import OURS
from diffusiongemma.transformer import DiffusionGemma
from tests.diffusiongemma.formats.folders import TOWER

GOLDEN = Path(__file__).parents[2] / "golden"


def test_tables_cover_every_parameter_of_the_network_once():
    config = dataclasses.replace(ModelConfig.preset("tiny"), vision=TOWER)
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
    config = dataclasses.replace(ModelConfig.preset("tiny"), vision=TOWER)
    rng = np.random.default_rng(0)
    for tensor in file_tensors(config, table).values():
        array = np.asarray(rng.normal(size=tensor.shape)).astype(ml_dtypes.bfloat16)
        if any(len(paths) > 1 for paths in tensor.slices):  # copies
            assert tensor.axes == "N" or tensor.axes == "1"
        again = tensor.from_params(tensor.to_params(array))
        assert again.shape == array.shape and again.tobytes() == array.tobytes(), tensor.name


def test_google_names_and_shapes_are_those_of_the_26b_model():
    official = json.loads((GOLDEN / "google_tree_26b.json").read_text())
    ours = file_tensors(ModelConfig.preset("26b_a4b"), GOOGLE)
    shapes = {k: list(v.shape) for k, v in ours.items()}
    tower = {k: shapes.pop(k) for k in list(shapes) if k.startswith(GOOGLE_PREFIXES)}
    assert shapes == {k: v[0] for k, v in official.items()}
    # The tower's, by Google's code (gemma/gm/nn/gemma4/vision); the list above leaves it out.
    block = "vision_encoder/transformer/stacked_layers/block/"
    assert tower == {
        "vision_encoder/entry/input_projection/w": [768, 1152],
        "vision_encoder/entry/pos_emb": [10240, 2, 1152],
        f"{block}pre_attention_norm/scale": [27, 1152],
        f"{block}attn/q_einsum/w": [27, 16, 1152, 72],
        f"{block}attn/kv_einsum/w": [27, 2, 16, 1152, 72],
        f"{block}attn/attn_vec_einsum/w": [27, 16, 72, 1152],
        f"{block}attn/query_norm/scale": [27, 72],
        f"{block}attn/key_norm/scale": [27, 72],
        f"{block}post_attention_norm/scale": [27, 1152],
        f"{block}pre_ffw_norm/scale": [27, 1152],
        f"{block}mlp/gating_einsum/w": [27, 2, 4304, 1152],
        f"{block}mlp/linear/w": [27, 4304, 1152],
        f"{block}post_ffw_norm/scale": [27, 1152],
        "vision_encoder/standardize/bias": [1152],
        "vision_encoder/standardize/scale": [1152],
        "embedder/mm_input_projection/w": [1152, 2816],
    }


def test_google_format_has_one_layer_scalar_and_refuses_two_that_differ():
    tensor = file_tensors(ModelConfig.preset("tiny"), GOOGLE)["layer_0/skip_scale"]
    params = {"layers.0.encode_scalar": np.ones(1), "layers.0.denoise_scalar": np.ones(1)}
    np.testing.assert_array_equal(tensor.from_params(params), np.ones(1))
    with pytest.raises(ValueError, match="layer_0/skip_scale is one tensor"):
        tensor.from_params(params | {"layers.0.encode_scalar": np.zeros(1)})
