"""Google's layout, as Orbax itself saves and restores it."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.hf_config import config_to_hf
from diffusiongemma.formats.load_save import (
    convert_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from diffusiongemma.formats.tensor_tables import GOOGLE, file_tensors
from diffusiongemma.parameters import BOUNDS
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    TOWER,
    add_tower,
    assert_same,
    assert_same_tensors,
    nested,
    refusal,
    save_by_orbax,
)


def flat(tensors: dict) -> dict:
    tree: dict = {}
    for name, value in tensors.items():
        module, leaf = name.rsplit("/", 1)
        tree.setdefault(f"transformer/{module}", {})[leaf] = value
    return tree


def with_dense_w(tensors: dict) -> dict:
    def name(key: str) -> str:
        dense = "mlp2/" in key or "/ffw/" in key
        return f"{key}/w" if dense else key

    return {name(key): value for key, value in tensors.items()}


@pytest.mark.parametrize("form", [nested, flat], ids=["nested", "flat"])
@pytest.mark.parametrize("names", [dict, with_dense_w], ids=["", "w"])
def test_google_tree_saved_by_orbax_loads_in_every_form(two, google_tree, tmp_path, form, names):
    saved = save_by_orbax(tmp_path / "google", form(names(google_tree)))
    model = load_checkpoint(saved, config=CONFIGS["two"])
    assert_same(model, load_checkpoint(two))


@pytest.mark.parametrize("form", [nested, flat], ids=["nested", "flat"])
def test_google_tree_written_here_is_restored_by_orbax(two, google_tree, tmp_path, form):
    convert_checkpoint(two, tmp_path / "out", "google", flat=form is flat)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "out", form(google_tree))

    def compare(one, other):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if isinstance(value, dict):
                compare(value, other[key])
            else:
                assert value.dtype == other[key].dtype
                assert value.tobytes() == np.asarray(other[key]).tobytes(), key

    compare(form(google_tree), restored)
    metadata = json.loads((tmp_path / "out" / "_METADATA").read_text())
    assert len(metadata["tree_metadata"]) == len(google_tree)


def test_config_of_a_google_checkpoint(two, google_tree, tmp_path):
    saved = save_by_orbax(tmp_path / "google", nested(google_tree))
    assert "Google's layout without a config.json" in refusal(saved)
    assert "neither a preset (26b_a4b, medium, small, tiny) nor a file" in refusal(
        saved, config="huge"
    )
    assert load_checkpoint(saved, config=two / "config.json").config == CONFIGS["two"]
    assert load_checkpoint(saved, config=two).config == CONFIGS["two"]
    shutil.copy(two / "config.json", saved)
    assert load_checkpoint(saved).config == CONFIGS["two"]
    assert "shape (" in refusal(saved, config="tiny")
    said = "a checkpoint in the format hf has its own config: leave out --config"
    assert refusal(two, config="tiny") == f"{two}: {said}"


def test_google_faults_are_reported_together(google_tree, tmp_path):
    tree = dict(google_tree)
    del tree["final_norm/scale"]
    tree["layer_1/attn/v_einsum/w"] = np.zeros((2, 24, 6), np.float32)
    tree["layer_0/mlp2/linear"] = np.zeros((24, 20), np.float32)
    tree["layer_0/mlp/router_scale"] = np.ones(24, np.int32)
    message = refusal(save_by_orbax(tmp_path / "bad", nested(tree)), config=CONFIGS["two"])
    assert "missing (1): final_norm/scale" in message
    assert "extra (1): layer_1/attn/v_einsum/w" in message
    assert "shape (1): layer_0/mlp2/linear is [24, 20], not [20, 24]" in message
    assert "dtype (1): layer_0/mlp/router_scale is int32" in message


@pytest.mark.parametrize("form", [nested, flat], ids=["nested", "flat"])
def test_a_vision_tower_comes_and_goes_in_googles_layout(two, tmp_path, form):
    source = Path(shutil.copytree(two, tmp_path / "source"))
    add_tower(source)
    # Google's tree has one tensor and its bounds for keys and values, and for gate and up.
    model = load_checkpoint(source, np.float32)
    for layer in model.vision.layers:
        pairs = (layer.attention.k, layer.attention.v), (layer.mlp.gate, layer.mlp.up)
        for (one, other), bound in itertools.product(pairs, BOUNDS):
            getattr(other, bound)[...] = getattr(one, bound)[...]
    save_checkpoint(model, tmp_path / "hf")
    convert_checkpoint(tmp_path / "hf", tmp_path / "google", "google", flat=form is flat)
    config = load_checkpoint(source).config
    tree = {}
    for name, tensor in file_tensors(config, GOOGLE).items():
        if name.startswith(("vision_encoder/", "embedder/mm_")):
            tree[name] = np.zeros(tensor.shape, np.float32)
    assert tree["vision_encoder/transformer/stacked_layers/block/attn/kv_einsum/w"].shape == (
        2,
        2,
        1,
        6,
        4,
    )
    assert_same(load_checkpoint(tmp_path / "google"), model)
    convert_checkpoint(tmp_path / "google", tmp_path / "back", "hf")
    assert_same_tensors(tmp_path / "back", tmp_path / "hf")
    assert load_checkpoint(tmp_path / "google").config == config

    model.vision.layers[1].mlp.up.input_max[...] += 1
    said = r"they differ \(1\): vision\.layers\.1\.mlp\.gate\.input_max and"
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(model, tmp_path / "apart", format="google")


def test_googles_layout_without_a_tower_needs_none_in_the_config(two, google_tree, tmp_path):
    seeing = dataclasses.replace(CONFIGS["two"], vision=TOWER)
    saved = save_by_orbax(tmp_path / "google", flat(google_tree))
    assert load_checkpoint(saved, config=seeing).config == CONFIGS["two"]
    tree = flat(google_tree)
    tree["transformer/embedder/mm_input_projection"] = {"w": np.ones((6, 24), np.int8)}
    said = refusal(save_by_orbax(tmp_path / "bad", tree), config=seeing)
    assert "vision_encoder/entry/pos_emb" in said
    assert "dtype (1): embedder/mm_input_projection/w is int8" in said


def test_google_tensor_under_both_names_is_refused(google_tree, tmp_path):
    tree = flat(google_tree)
    tree["transformer/layer_0/mlp2/linear"] = {"w": google_tree["layer_0/mlp2/linear"]}
    message = refusal(save_by_orbax(tmp_path / "bad", tree), config=CONFIGS["two"])
    assert "twice (1): layer_0/mlp2/linear" in message


def test_google_tensors_that_are_not_finite_are_named(google_tree, tmp_path):
    tree = {key: value.copy() for key, value in google_tree.items()}
    tree["layer_1/mlp/linear/w"].flat[-1] = np.nan
    saved = save_by_orbax(tmp_path / "bad", nested(tree))
    assert "inf or nan (1): layer_1/mlp/linear/w" in refusal(saved, config=CONFIGS["two"])
    shutil.copy(save_config(tmp_path), saved)
    with pytest.raises(CheckpointError, match=r"inf or nan \(1\): layer_1/mlp/linear/w"):
        convert_checkpoint(saved, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()


def save_config(folder: Path) -> Path:
    config = config_to_hf(CONFIGS["two"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def test_google_layout_refuses_modes_with_scalars_of_their_own(two, tmp_path):
    model = load_checkpoint(two)
    model.layers[1].encode_scalar[...] *= 2
    said = r"they differ \(1\): layers\.1\.encode_scalar and layers\.1\.denoise_scalar"
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(model, tmp_path / "new" / "out", format="google")
    assert not list(tmp_path.iterdir())


def test_google_layout_refuses_to_stack_two_dtypes(two, tmp_path):
    model = load_checkpoint(two)
    kernel = model.layers[0].attention.v.kernel
    model.layers[0].attention.v.kernel = nnx.Param(kernel[...].astype(jnp.float32))
    with pytest.raises(CheckpointError, match=r"dtypes differ \(1\): layers\.0\.attention\.k"):
        save_checkpoint(model, tmp_path / "out", format="google")
