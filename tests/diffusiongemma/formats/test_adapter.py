"""LoRA factors and the base that they belong to."""

import dataclasses
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma.formats.adapter import fingerprint
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint
from diffusiongemma.lora import add_lora
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    add_tower,
    assert_same,
    assert_same_tensors,
    edit_config,
    make_adapter,
    make_folder,
    refusal,
    save_run,
    weights,
)

# Six maps; of the experts' two stacks one in layer 0, both in layer 1.
PATTERN = r"layers\.0\.(attention\.[qk]|moe\.down)$|layers\.1\.moe\.(gate_up|down)|conditioner.*up"


def test_a_base_keeps_its_fingerprint_in_every_format_and_in_bfloat16(tmp_path):
    base = make_folder(tmp_path / "base", "six")
    known = fingerprint(open_checkpoint(base)[0])
    for name, options in {
        "hf": {"dtype": "bfloat16"},
        "google": {"dtype": "bfloat16"},
        "orbax": {},
        "flat": {"format": "google", "flat": True},
    }.items():
        convert_checkpoint(base, tmp_path / name, **({"format": name} | options))
        assert fingerprint(open_checkpoint(tmp_path / name)[0]) == known, name
    add_tower(base)
    assert fingerprint(open_checkpoint(base)[0]) == known


@pytest.mark.parametrize("name", ["layers.1.experts.down_proj", "layers.0.layer_scalar"])
def test_a_changed_parameter_changes_the_fingerprint(two, tmp_path, name):
    base = Path(shutil.copytree(two, tmp_path / "base"))
    tensors = load_file(base / "model.safetensors")
    tensors[f"model.decoder.{name}"].flat[0] *= 1.01
    save_file(tensors, base / "model.safetensors")
    assert fingerprint(open_checkpoint(base)[0]) != fingerprint(open_checkpoint(two)[0])


@pytest.fixture
def run(two, tmp_path) -> Path:
    """The workdir of a LoRA run on "two", which trained another canvas."""
    model = load_checkpoint(two)
    model.config = dataclasses.replace(model.config, canvas_size=5)
    add_lora(model, 2, 3.5, rngs=nnx.Rngs(1), pattern=PATTERN)
    rng = np.random.default_rng(0)
    for _, factor in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam)):
        factor[...] = jnp.asarray(rng.normal(size=factor.shape), jnp.float32)
    lora = {"rank": 2, "alpha": 3.5, "pattern": PATTERN}
    origin = {"init": str(two), "base_fingerprint": fingerprint(open_checkpoint(two)[0])}
    save_run(tmp_path / "run", model, nnx.LoRAParam, lora, **origin)
    return tmp_path / "run"


def test_a_runs_factors_alone_are_the_same_model(run, tmp_path):
    convert_checkpoint(run, tmp_path / "adapter", "peft")
    ours, model = load_checkpoint(run), load_checkpoint(tmp_path / "adapter")
    assert sum("lora_" in path for path in weights(model)) == 2 * 6
    assert_same(model, ours)
    assert model.config == ours.config and model.config.canvas_size == 5
    assert model.layers[1].moe.down.lora_scale == ours.layers[1].moe.down.lora_scale == 1.75


def test_a_run_may_have_factors_of_one_mode_alone(two, tmp_path):
    """The checkpoint of a run that began with such an adapter names its factors."""
    adapter = make_adapter(tmp_path / "adapter", CONFIGS["two"], str(two))
    tensors = load_file(adapter / "adapter_model.safetensors")
    q = "base_model.model.model.encoder.language_model.layers.0.self_attn.q_proj.lora_A.weight"
    tensors[q] = tensors[q] + 1
    save_file(tensors, adapter / "adapter_model.safetensors")
    model = load_checkpoint(adapter)
    factors = sorted(path for path in weights(model) if "lora_" in path)
    assert "layers.0.attention.q.encode_lora_a" in factors and len(factors) == 10
    lora = {"rank": 2, "alpha": 3, "pattern": ".*", "factors": factors}
    save_run(tmp_path / "run", model, nnx.LoRAParam, lora, init=str(two))
    loaded = load_checkpoint(tmp_path / "run")
    assert_same(loaded, model)
    assert loaded.separate_lora and loaded.layers[0].attention.q.lora_scale == 1.5
    convert_checkpoint(tmp_path / "run", tmp_path / "again", "peft")
    assert_same_tensors(tmp_path / "again", adapter)
    lora["factors"] = factors[1:]
    save_run(tmp_path / "other", model, nnx.LoRAParam, lora, init=str(two))
    assert refusal(tmp_path / "other").endswith("extra (1): layers.0.attention.q.denoise_lora_a")


def test_factors_on_another_base_are_refused(two, run, tmp_path):
    other = Path(shutil.copytree(two, tmp_path / "other"))
    tensors = load_file(other / "model.safetensors")
    tensors["model.decoder.norm.weight"] *= 2
    save_file(tensors, other / "model.safetensors")
    six = make_folder(tmp_path / "six", "six")
    convert_checkpoint(run, tmp_path / "adapter", "peft")
    convert_checkpoint(tmp_path / "adapter", tmp_path / "again", "peft")
    for folder in (run, tmp_path / "adapter", tmp_path / "again"):
        load_checkpoint(folder, np.float32, base=two)
        for base in (other, six):
            said = refusal(folder, base=base)
            assert said.endswith(
                f": its LoRA factors were trained on another base than {base}: "
                "name the base that they were trained on (--base)"
            )
            assert "\n" not in said
    with pytest.raises(CheckpointError, match="trained on another base"):
        convert_checkpoint(run, tmp_path / "out", "hf", base=other)
    assert not (tmp_path / "out").exists()


def test_without_a_fingerprint_only_shapes_are_checked(two, adapter, tmp_path):
    other = Path(shutil.copytree(two, tmp_path / "other"))
    tensors = load_file(other / "model.safetensors")
    tensors["model.decoder.norm.weight"] *= 2
    save_file(tensors, other / "model.safetensors")
    load_checkpoint(adapter, base=other)
    said = refusal(adapter, base=make_folder(tmp_path / "six", "six"))
    assert "experts.base_layer.lora_A.weight is [10, 24], not [8, 32]" in said


def test_a_run_that_began_at_random_has_no_base(two, tmp_path):
    model = load_checkpoint(two)
    add_lora(model, 1, 1.0, rngs=nnx.Rngs(1), pattern="conditioner")
    save_run(tmp_path, model, nnx.LoRAParam, {"rank": 1, "alpha": 1.0, "pattern": "conditioner"})
    said = "holds LoRA factors but does not name their base: name it (--base)"
    assert refusal(tmp_path).endswith(said)


def test_a_base_that_is_not_there_is_named(two, adapter, tmp_path):
    edit_config(adapter, base_model_name_or_path="google/some-model")
    said = f"{adapter}: holds LoRA factors whose base "
    advice = "download it and name their base (--base)"
    assert refusal(adapter) == f"{said}google/some-model is not there: {advice}"
    edit_config(adapter, base_model_name_or_path="../gone")
    missing = adapter / ".." / "gone"
    assert refusal(adapter) == f"{said}{missing} is not there: name their base (--base)"
    edit_config(adapter, base_model_name_or_path="unsloth/some-model-unsloth-bnb-4bit")
    advice = "download what it was quantized from (perhaps unsloth/some-model) and name that"
    assert f"bnb-4bit is not there: {advice} (--base)" in refusal(adapter)
    advice = "--base must name its folder"
    assert refusal(adapter, base=missing) == f"{said}{missing} is not there: {advice}"
    file = two / "config.json"
    assert refusal(adapter, base=file) == f"{said}{file} is a file: {advice}"
    assert load_checkpoint(adapter, base=two).self_conditioner.mlp.down.lora_a is not None
    edit_config(adapter, base_model_name_or_path=None)
    assert "does not name their base: name it (--base)" in refusal(adapter)
    other = make_adapter(tmp_path / "other", CONFIGS["two"], str(two))
    said = "holds LoRA factors, which cannot be a base: merge them with scripts.convert"
    assert refusal(adapter, base=other) == f"{other}: {said}"
    assert refusal(two, base=two) == f"{two}: has all its weights, so it takes no base (--base)"
