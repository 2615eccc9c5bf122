"""Adapters as PEFT has them.

tests/golden/peft_six was saved by PEFT itself (scripts/make_golden.py). Its factors are on all
linear maps, but layers 4 and 5 lack those of one of the experts' two stacks. PEFT also saved
peft_apart: encoder and decoder have factors of their own there, and some maps in one of them only.
"""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint
from diffusiongemma.lora import linears, merge_lora
from diffusiongemma.parameters import in_tower
from diffusiongemma.transformer import DiffusionGemma
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    add_tower,
    assert_same,
    assert_same_tensors,
    edit_config,
    make_adapter,
    make_folder,
    refusal,
    weights,
)
from tests.diffusiongemma.test_parity import MISTAKE, TEMPERATURES, TOLERANCE, Runner, error

GOLDEN = Path(__file__).parents[2] / "golden"
PEFT_SIX, PEFT_APART = GOLDEN / "peft_six", GOLDEN / "peft_apart"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def retouch(folder: Path, **tensors: np.ndarray | None) -> None:
    """Changes tensors by name, from "model." on and with "__" for "."; None takes one away."""
    found = load_file(folder / WEIGHTS)
    for name, value in tensors.items():
        name = f"base_model.model.{name.replace('__', '.')}.weight"
        if value is None:
            del found[name]
        else:
            found[name] = value
    save_file(found, folder / WEIGHTS)


def factors(model: DiffusionGemma) -> dict[str, np.ndarray]:
    return {path: value for path, value in weights(model).items() if "lora_" in path}


def outputs(folder: Path) -> dict[str, np.ndarray]:
    """What PEFT's model computes for the prompt of five tokens."""
    with np.load(folder / "outputs.npz") as file:
        return {k.removeprefix("p5_"): file[k] for k in file.files}


def errors_of(run: Runner, want: dict[str, np.ndarray]) -> dict[str, float]:
    """How far a model is from what PEFT's computes."""
    errors = {}
    logits, cache = run.encode(want["prompt"], run.init_cache())
    errors["encode"] = error(logits, want["encode_logits"])
    soft = np.zeros_like(want["soft"][0])
    errors["denoise"] = error(run.denoise(want["canvas"][0], cache, soft), want["logits"][0])
    for i, temperature in enumerate(TEMPERATURES):
        soft = run.model.soft_embed(want["logits"][i] / temperature)
        logits = run.denoise(want["canvas"][i + 1], cache, soft)
        errors[f"self-conditioned {i}"] = error(logits, want["logits"][i + 1])
    return errors


def test_every_output_matches_peft():
    run, want = Runner(load_checkpoint(PEFT_SIX)), outputs(PEFT_SIX)
    errors = errors_of(run, want)
    assert max(errors.values()) < TOLERANCE, errors
    assert not run.model.separate_lora
    # The factors of a single map matter.
    run.model.layers[4].moe.gate_up.lora_b[...] *= 0
    bare = nnx.state(run.model)
    logits, _ = run.encode(want["prompt"], run.init_cache(), state=bare)
    assert error(logits, want["encode_logits"]) > MISTAKE


def test_factors_of_one_mode_alone_match_peft_too():
    run, want = Runner(load_checkpoint(PEFT_APART)), outputs(PEFT_APART)
    errors = errors_of(run, want)
    assert max(errors.values()) < TOLERANCE, errors
    # Each mode has factors that the other one does not use.
    _, cache = run.encode(want["prompt"], run.init_cache())
    before = run.denoise(want["canvas"][0], cache, np.zeros_like(want["soft"][0]))
    run.model.layers[4].moe.down.encode_lora_b[...] *= 0
    run.model.layers[2].attention.v.encode_lora_b[...] *= 0
    bare = nnx.state(run.model)
    logits, _ = run.encode(want["prompt"], run.init_cache(), state=bare)
    assert error(logits, want["encode_logits"]) > MISTAKE
    after = run.denoise(want["canvas"][0], cache, np.zeros_like(want["soft"][0]), state=bare)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("folder", [PEFT_SIX, PEFT_APART], ids=lambda folder: folder.name)
def test_written_again_it_has_the_tensors_and_targets_of_peft(folder, tmp_path):
    convert_checkpoint(folder, tmp_path / "new" / "again", "peft")
    again = tmp_path / "new" / "again"
    assert sorted(f.name for f in again.iterdir()) == [CONFIG, WEIGHTS]
    before, after = load_file(folder / WEIGHTS), load_file(again / WEIGHTS)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype and value.tobytes() == after[name].tobytes(), name
    theirs, ours = (json.loads((f / CONFIG).read_text()) for f in (folder, again))
    assert (ours["r"], ours["lora_alpha"]) == (theirs["r"], theirs["lora_alpha"]) == (2, 3)
    parts, is_six = set(ours["target_parameters"]), folder == PEFT_SIX
    assert all(any(p.endswith(t) for p in parts) for t in theirs["target_parameters"])
    assert len(parts) == (len(theirs["target_parameters"]) if is_six else 6)
    modules = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in before}
    modules = {name for name in modules if ".experts" not in name}
    assert set(ours["target_modules"]) == modules
    if is_six:
        assert all(re.fullmatch(theirs["target_modules"], name) for name in modules)
    assert (again / ours["base_model_name_or_path"]).samefile(GOLDEN / "hf_six")
    assert_same(load_checkpoint(again), load_checkpoint(folder))


@pytest.mark.parametrize("format", ["hf", "google", "orbax"])
def test_an_adapter_converts_merged(two, adapter, tmp_path, format):
    convert_checkpoint(adapter, tmp_path / "out", format)
    model = load_checkpoint(adapter)
    assert len(factors(model)) == 8
    merge_lora(model)
    merged = load_checkpoint(tmp_path / "out")
    assert_same(merged, model)
    before, after = weights(load_checkpoint(two)), weights(merged)
    changed = {path for path in before if before[path].tobytes() != after[path].tobytes()}
    assert changed == {
        "layers.0.attention.q.kernel",
        "layers.0.moe.gate_up.kernel",
        "layers.0.moe.down.kernel",
        "self_conditioner.mlp.down.kernel",
    }


def test_companions_are_the_bases_unless_the_adapter_has_them(two, adapter, tmp_path):
    base = Path(shutil.copytree(two, tmp_path / "base"))
    edit_config(adapter, base_model_name_or_path="../base")
    for name in ("tokenizer.json", "chat_template.jinja", "README.md"):
        (base / name).write_text('"the base"')
    (adapter / "chat_template.jinja").write_text("its own")
    convert_checkpoint(adapter, tmp_path / "out", "hf")
    assert not (tmp_path / "out" / "README.md").exists()  # it describes the base
    assert (tmp_path / "out" / "tokenizer.json").read_text() == '"the base"'
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "its own"


def test_factors_go_where_the_sharding_says(adapter):
    where = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    model = load_checkpoint(adapter, sharding=lambda path, shape: where)
    assert model.layers[0].attention.q.lora_a[...].sharding == where


def test_factors_of_the_vision_tower_are_left_out_with_a_warning(two, adapter, capsys):
    tower = "model__encoder__vision_tower__encoder__layers__0__mlp__up_proj__linear__lora_"
    retouch(adapter, **{f"{tower}{part}": np.ones((2, 2), np.float32) for part in "AB"})
    for _ in range(2):  # said once
        assert load_checkpoint(adapter).layers[0].attention.q.lora_a is not None
    said = "2 tensors belong to the vision tower and are left out, because"
    assert capsys.readouterr().err == f"warning: {adapter}: {said} {two} has none\n"


def test_factors_of_a_vision_tower_come_and_go(two, adapter, tmp_path, capsys):
    base = Path(shutil.copytree(two, tmp_path / "base"))
    add_tower(base)
    before = load_checkpoint(adapter, base=base)  # it has no factors of the tower
    assert all(m.lora_a is None for p, m in linears(before) if in_tower(p))
    tower = "model__encoder__vision_tower__encoder__layers__0__mlp__up_proj__linear__lora_"
    rng = np.random.default_rng(2)
    pair = {"A": rng.normal(size=(2, 6)), "B": rng.normal(size=(5, 2))}
    retouch(adapter, **{f"{tower}{p}": v.astype(np.float32) for p, v in pair.items()})
    names = ["layers.0.self_attn.q_proj", "self_conditioning.down_proj", "0.mlp.up_proj.linear"]
    edit_config(adapter, target_modules=names)
    up = load_checkpoint(adapter, base=base).vision.layers[0].mlp.up
    np.testing.assert_array_equal(up.lora_a[...], pair["A"].T.astype(np.float32))
    np.testing.assert_array_equal(up.lora_b[...], pair["B"].T.astype(np.float32))
    shutil.copytree(base, tmp_path / "new base")
    convert_checkpoint(adapter, tmp_path / "again", "peft", base=tmp_path / "new base")
    assert_same_tensors(adapter, tmp_path / "again")
    convert_checkpoint(adapter, tmp_path / "merged", "hf", base=base)
    merged = load_checkpoint(tmp_path / "merged").vision.layers[0].mlp.up.kernel[...]
    kernel = up.kernel[...].astype(np.float32) + 1.5 * (pair["B"] @ pair["A"]).T
    np.testing.assert_allclose(merged.astype(np.float32), kernel, atol=0.05)
    assert capsys.readouterr().err == ""


# Faults, each in one report.


def test_missing_extra_and_misshapen_factors_are_reported_together(adapter):
    retouch(
        adapter,
        model__decoder__layers__0__self_attn__q_proj__lora_B=None,
        model__decoder__layers__1__self_attn__q_proj__lora_A=np.zeros((2, 24), np.float32),
        model__decoder__self_conditioning__down_proj__lora_A=np.zeros((3, 20), np.float32),
        model__decoder__layers__0__self_attn__q__lora_A=np.zeros((2, 37), np.float32),
        model__encoder__vision_tower__encoder__layers__0__self_attn__q_proj__linear__lora_A=np.ones(
            3
        ),
    )
    said = refusal(adapter)
    start = "base_model.model.model.decoder."
    assert f"missing (1): {start}layers.0.self_attn.q_proj.lora_B.weight\n" in said
    assert "extra (2): " in said and f"{start}layers.0.self_attn.q.lora_A.weight" in said
    assert f"{start}layers.1.self_attn.q_proj.lora_A.weight" in said
    assert f"{start}self_conditioning.down_proj.lora_A.weight is [3, 20], not [2, 20]" in said
    assert "vision" not in said


@pytest.fixture
def apart(adapter) -> Path:
    """The adapter with two pairs on one stack of experts, and on q a pair for denoise alone."""
    name = "model__encoder__language_model__layers__0__experts__lora_B"
    retouch(adapter, **{name: np.ones((24, 10), np.float32)})
    targets = ["decoder.layers.0.self_attn.q_proj", "self_conditioning.down_proj"]
    edit_config(adapter, target_modules=targets)
    q = "model__encoder__language_model__layers__0__self_attn__q_proj__"
    retouch(adapter, **{f"{q}lora_A": None, f"{q}lora_B": None})
    return adapter


def test_only_factors_that_are_equal_become_one_pair(apart):
    model = load_checkpoint(apart)
    paths = {path.removeprefix("layers.0.") for path in factors(model)}
    pairs = {path.removesuffix("_a") for path in paths if path.endswith("_a")}
    assert paths == {f"{pair}_{part}" for pair in pairs for part in "ab"}
    assert pairs == {
        "attention.q.denoise_lora",
        "moe.gate_up.lora",
        "moe.down.encode_lora",
        "moe.down.denoise_lora",
        "self_conditioner.mlp.down.lora",
    }
    down = model.layers[0].moe.down
    assert down.lora_scale == 1.5 and np.all(down.encode_lora_b[...] == 1)
    assert np.any(down.denoise_lora_b[...] != 1)
    np.testing.assert_array_equal(down.encode_lora_a[...], down.denoise_lora_a[...])


@pytest.mark.parametrize("format", ["hf", "google", "orbax"])
def test_factors_of_one_mode_alone_cannot_be_merged(apart, tmp_path, format):
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(apart, tmp_path / "out", format)
    assert str(caught.value) == (
        f"{apart}: its LoRA factors are not the same for encode and denoise, which share the "
        "weights, so they cannot be merged into them: keep the adapter beside its base, and load "
        "it as it is, or export it with --format=peft"
    )
    assert not (tmp_path / "out").exists()


def test_factors_that_are_not_finite_are_named(adapter, tmp_path):
    a = np.full((2, 20), np.nan, np.float32)
    retouch(adapter, model__decoder__self_conditioning__down_proj__lora_A=a)
    name = "base_model.model.model.decoder.self_conditioning.down_proj.lora_A.weight"
    assert refusal(adapter).endswith(f"inf or nan (1): {name}")
    for format in ("hf", "peft"):
        with pytest.raises(CheckpointError, match="inf or nan"):
            convert_checkpoint(adapter, tmp_path / "out", format)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "field, value",
    [
        ("use_dora", True),
        ("bias", "all"),
        ("lora_bias", True),
        ("rank_pattern", {"q_proj": 4}),
        ("modules_to_save", ["lm_head"]),
        ("trainable_token_indices", [1]),
        ("layers_pattern", "blocks"),
        ("novelty", {"on": 1}),
    ],
)
def test_options_of_peft_that_are_not_supported_are_named(adapter, field, value):
    edit_config(adapter, **{field: value})
    said = f"{field}: {value!r} is not supported: train again with plain LoRA of one rank"
    assert refusal(adapter) == f"{adapter / CONFIG}: {said}"


@pytest.mark.parametrize(
    "field, value, advice",
    [
        ("alpha_pattern", {"q_proj": 4}, "multiply lora_B of those modules by their alpha /"),
        ("init_lora_weights", "pissa", "let PEFT save it with path_initial_model_for"),
    ],
)
def test_a_refusal_says_what_else_can_be_done(adapter, field, value, advice):
    edit_config(adapter, **{field: value})
    assert f"{field}: {value!r} is not supported: {advice}" in refusal(adapter)


def test_another_method_of_peft_is_named_alone(adapter):
    edit_config(adapter, peft_type="PREFIX_TUNING", num_virtual_tokens=8, r=None)
    assert (
        refusal(adapter) == f"{adapter / CONFIG}: peft_type: 'PREFIX_TUNING': only 'LORA' is read"
    )


def test_rank_stabilised_lora_has_its_own_scale(adapter, tmp_path):
    edit_config(adapter, use_rslora=True)
    scale = 3 / math.sqrt(2)  # alpha / sqrt(r)
    assert math.isclose(load_checkpoint(adapter).layers[0].attention.q.lora_scale, scale)
    convert_checkpoint(adapter, tmp_path / "again", "peft")
    again = load_checkpoint(tmp_path / "again")
    assert math.isclose(again.layers[0].attention.q.lora_scale, scale)


def test_layers_to_transform_choose_among_ends_of_names(adapter):
    """The adapter has q in layer 0 alone, and the self-conditioner is in no layer."""
    name = "model__decoder__self_conditioning__down_proj__lora_"
    retouch(adapter, **{f"{name}A": None, f"{name}B": None})
    edit_config(adapter, target_modules=["q_proj", "down_proj"])
    edit_config(adapter, exclude_modules=r".*\.mlp\..*")
    assert "missing (6): " in refusal(adapter)
    for layers in ([0], 0):
        edit_config(adapter, layers_to_transform=layers, layers_pattern="layers")
        assert load_checkpoint(adapter).layers[0].attention.q.lora_a is not None
    edit_config(adapter, layers_to_transform=["0"])
    assert refusal(adapter).endswith("layers_to_transform: expected numbers of layers")
    # A whole name is targeted in any case.
    whole = "model.decoder.layers.1.self_attn.q_proj"
    edit_config(adapter, layers_to_transform=[0], target_modules=["q_proj", whole])
    assert "missing (2): " in refusal(adapter)


def test_a_config_of_nonsense_is_refused_in_one_line(adapter):
    edit_config(adapter, r="two", lora_alpha=None, target_modules="(", use_dora=True, eva_config={})
    said = refusal(adapter)
    for part in (
        "use_dora: True is not supported",
        "r: expected int, got 'two'",
        "lora_alpha: expected float, got None",
        "target_modules: expected names, or a regular expression",
    ):
        assert part in said
    assert "eva_config" not in said and "\n" not in said
    (adapter / CONFIG).write_text("[]")
    assert refusal(adapter) == f"{adapter / CONFIG}: not a JSON object"
    (adapter / CONFIG).write_text('{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}')
    assert refusal(adapter).startswith(f"{adapter / CONFIG}: has no peft_type, so PEFT did not")


def test_an_adapter_of_nothing_or_without_its_file_is_refused(adapter):
    edit_config(adapter, target_modules=["lm_head"], target_parameters=None)
    said = "its target_modules and target_parameters name no linear map of the model"
    assert refusal(adapter) == f"{adapter}: {said}"
    edit_config(adapter, target_modules=["down_proj"])
    edit_config(adapter, base_model_name_or_path="google/some-model")
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    said = "has only pickle files (adapter_model.bin), which are never read"
    assert refusal(adapter).startswith(f"{adapter}: {said}")


def test_an_adapter_without_its_config_is_refused(adapter):
    (adapter / CONFIG).unlink()
    assert refusal(adapter).startswith(f"{adapter}: has {WEIGHTS} but no {CONFIG}, which says")


def test_names_with_the_adapters_own_name_are_read(adapter):
    want, tensors = factors(load_checkpoint(adapter)), load_file(adapter / WEIGHTS)
    named = {name.replace(".weight", ".default.weight"): v for name, v in tensors.items()}
    save_file(named, adapter / WEIGHTS)
    found = factors(load_checkpoint(adapter))
    assert found.keys() == want.keys()
    assert all(np.array_equal(found[path], value) for path, value in want.items())


@pytest.mark.parametrize("name", ["lm_head__lora_A", "model__decoder__embed_tokens"])
def test_factors_of_embeddings_are_refused(adapter, name):
    retouch(adapter, **{name: np.zeros((2, 37), np.float32)})
    module = name.removeprefix("model__decoder__").removesuffix("__lora_A")
    said = f"has tensors of {module}, and factors of embeddings are not supported: train again"
    assert refusal(adapter).startswith(f"{adapter}: {said}")


def test_a_base_of_another_size_is_named_in_one_line(tmp_path):
    config = dataclasses.replace(CONFIGS["two"], width=48)
    base = make_folder(tmp_path / "two", "two")
    adapter = make_adapter(tmp_path / "adapter", config, str(base))
    said = refusal(adapter)
    assert said.startswith(f"{adapter}: the shapes of its factors do not fit the base {base} and")
    assert "base_layer.lora_A.weight is [10, 48], not [10, 24], for example): name the base" in said
