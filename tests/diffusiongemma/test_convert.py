"""Released checkpoints in and out: bit-exact, and refused with everything that is wrong at once."""

import dataclasses
import json
import resource
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from diffusiongemma import checkpoint
from diffusiongemma.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from diffusiongemma.config import ModelConfig, five_to_one
from diffusiongemma.convert import GOOGLE, HF, HF_SKIPPED_PREFIXES, OURS, file_tensors
from diffusiongemma.hf_config import config_from_hf, config_to_hf
from diffusiongemma.transformer import DiffusionGemma

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ("hf_six", "hf_twelve")

# What Google released, as other projects quote it; the vision tower's fields left out.
RELEASED = {
    "architectures": ["DiffusionGemmaForBlockDiffusion"],
    "model_type": "diffusion_gemma",
    "canvas_length": 256,
    "dtype": "bfloat16",
    "eos_token_id": [1, 106, 50],
    "boi_token_id": 255999,
    "eoi_token_id": 258882,
    "image_token_id": 258880,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "vision_soft_tokens_per_image": 280,
    "vision_config": {"model_type": "gemma4_vision"},
    "text_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "dtype": "bfloat16",
        "eos_token_id": 1,
        "final_logit_softcapping": 30.0,
        "global_head_dim": 512,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2816,
        "initializer_range": 0.02,
        "intermediate_size": 2112,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5,
        "max_position_embeddings": 262144,
        "model_type": "diffusion_gemma_text",
        "moe_intermediate_size": 704,
        "num_attention_heads": 16,
        "num_experts": 128,
        "num_global_key_value_heads": 2,
        "num_hidden_layers": 30,
        "num_key_value_heads": 8,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "full_attention": {
                "partial_rotary_factor": 0.25,
                "rope_theta": 1000000.0,
                "rope_type": "proportional",
            },
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "sliding_window": 1024,
        "tie_word_embeddings": True,
        "top_k_experts": 8,
        "use_bidirectional_attention": "vision",
        "vocab_size": 262144,
    },
}


ROPE = RELEASED["text_config"]["rope_parameters"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of a golden checkpoint, to be spoilt."""
    shutil.copytree(GOLDEN / "hf_six", tmp_path / "model")
    return tmp_path / "model"


def read(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def write(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, folder / "model.safetensors")


def text_tensors(folder: Path) -> dict[str, np.ndarray]:
    return {k: v for k, v in read(folder).items() if not k.startswith(HF_SKIPPED_PREFIXES)}


def edit_config(folder: Path, text: dict | None = None, **top) -> None:
    config = json.loads((folder / "config.json").read_text()) | top
    config["text_config"] |= text or {}
    (folder / "config.json").write_text(json.dumps(config))


def refusal(folder: Path, **kwargs) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, **kwargs)
    return str(caught.value)


def leaves(model: DiffusionGemma) -> list[jax.Array]:
    return [v[...] for _, v in nnx.to_flat_state(nnx.state(model))]


# The tables.


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


# config.json.


def test_released_config_is_the_26b_preset():
    assert config_from_hf(RELEASED) == ModelConfig.preset("26b_a4b")


@pytest.mark.parametrize("config", [ModelConfig.preset(n) for n in ("26b_a4b", "small", "tiny")])
def test_config_comes_back(config):
    odd = dataclasses.replace(
        config, rope_theta=500.0, full_rope_fraction=0.5, softcap=20.0, norm_eps=1e-5, eos_id=3
    )
    for c in (config, odd):
        assert config_from_hf(json.loads(json.dumps(config_to_hf(c)))) == c


def test_config_reads_full_layer_heads_from_either_place():
    """transformers 5.23.0 writes per_layer_config, the release has global_head_dim."""
    config = json.loads((GOLDEN / "hf_twelve" / "config.json").read_text())
    found = config_from_hf(config)
    assert (found.full_num_kv_heads, found.full_head_dim) == (2, 24)
    assert found.layer_types == five_to_one(12) and found.stop_ids == (1,)
    del config["text_config"]["per_layer_config"]
    config["text_config"] |= {"global_head_dim": 24, "num_global_key_value_heads": 2}
    assert config_from_hf(config) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"hidden_activation": "silu"}, "hidden_activation: 'silu' is not supported"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention: 'all'"),
        ({"attention_k_eq_v": False}, "attention_k_eq_v: False"),
        ({"novelty": 1}, "text_config.novelty: unknown field"),
        ({"hidden_size": "big"}, "hidden_size: expected a number, got 'big'"),
        ({"hidden_size": None}, "hidden_size: missing"),
        ({"num_experts": 0}, "num_experts: 0 is out of range"),
        ({"num_hidden_layers": 7}, "layer_types: 6 entries for 7 layers"),
        ({"layer_types": ["full_attention", "linear"] * 3}, "layer_types: unknown linear"),
        ({"layer_types": ["sliding_attention"] * 6}, "last layer must be full_attention"),
        ({"per_layer_config": {"0": {"head_dim": 4}}}, "per_layer_config: more than"),
        ({"global_head_dim": 99}, "full layers of differing heads"),
        ({"layer_types": 6}, "layer_types: expected a list"),
        ({"per_layer_config": {"five": {}}}, "per_layer_config: expected layer numbers"),
        ({"rope_parameters": {"sliding_attention": 1, "full_attention": {}}}, "rope_parameters"),
        ({"rope_parameters": ROPE | {"full_attention": {"rope_type": "yarn"}}}, "'yarn'"),
        ({"rope_parameters": ROPE | {"full_attention": {}}}, "full_attention.rope_type: missing"),
        ({"rope_parameters": ROPE | {"full_attention": {"factor": 8}}}, "factor: unknown field"),
        ({"eos_token_id": []}, "eos_token_id: expected token ids"),
        ({"rope_parameters": {}}, "rope_parameters: expected sliding_attention, full_attention"),
        ({"top_k_experts": 5}, "top_k 5"),
    ],
)
def test_unsupported_config_is_refused_by_name(folder, text, said):
    edit_config(folder, text)
    message = refusal(folder)
    assert said in message and "config.json" in message and "\n" not in message


def test_config_faults_are_reported_together(folder):
    edit_config(folder, {"novelty": 1, "hidden_size": 0}, surprise=2, model_type="gemma4")
    message = refusal(folder)
    for said in ("surprise", "novelty", "hidden_size", "model_type: 'gemma4'"):
        assert said in message


# Folders.


@pytest.mark.parametrize("name", MODELS)
def test_folder_comes_back_bit_by_bit(tmp_path, name):
    model = load_checkpoint(GOLDEN / name)
    save_checkpoint(model, tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert sorted(f.name for f in out.iterdir()) == ["config.json", "model.safetensors"]
    before, after = text_tensors(GOLDEN / name), read(out)
    assert before.keys() == after.keys()
    for key in before:
        assert before[key].dtype == after[key].dtype
        assert before[key].tobytes() == after[key].tobytes(), key
    assert load_checkpoint(out).config == model.config


def test_layer_scalars_of_both_modes_are_read():
    layer = load_checkpoint(GOLDEN / "hf_six").layers[3]
    tensors = read(GOLDEN / "hf_six")
    encode = tensors["model.encoder.language_model.layers.3.layer_scalar"]
    denoise = tensors["model.decoder.layers.3.layer_scalar"]
    assert encode != denoise
    np.testing.assert_array_equal(layer.encode_scalar[...], encode)
    np.testing.assert_array_equal(layer.denoise_scalar[...], denoise)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bf16", "f16"])
def test_half_precision_files_keep_their_dtype_or_are_cast(folder, dtype):
    halves = {k: v.astype(dtype) for k, v in read(folder).items()}
    write(folder, halves)
    model = load_checkpoint(folder)
    assert {v.dtype for v in leaves(model)} == {jnp.dtype(dtype)}
    save_checkpoint(model, folder)
    for key, value in read(folder).items():
        assert value.tobytes() == halves[key].tobytes(), key
    assert {v.dtype for v in leaves(load_checkpoint(folder, jnp.float32))} == {np.dtype("f4")}


@pytest.mark.parametrize("with_index", [True, False])
def test_sharded_folder_loads_the_same_model(folder, with_index):
    whole = leaves(load_checkpoint(folder))
    tensors = read(folder)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i in range(3):
        part = {k: tensors[k] for k in sorted(tensors)[i::3]}
        name = f"model-0000{i + 1}-of-00003.safetensors"
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    if with_index:
        index = {"weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    parts = leaves(load_checkpoint(folder))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    (folder / "model-00002-of-00003.safetensors").unlink()
    said = "model-00002-of-00003.safetensors is not there" if with_index else "missing ("
    assert said in refusal(folder)


def test_sharding_is_asked_for_every_parameter():
    asked = []

    def sharding(path, shape):
        asked.append((path, shape))
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])

    model = load_checkpoint(GOLDEN / "hf_six", sharding=sharding)
    assert len(asked) == len(leaves(model))
    assert ("layers.5.moe.gate_up.kernel", (4, 32, 16)) in asked


# Faults, each in one report.


def test_missing_extra_and_misshapen_tensors_are_reported_together(folder):
    tensors = read(folder)
    del tensors["model.decoder.norm.weight"]
    del tensors["model.encoder.language_model.layers.2.layer_scalar"]
    tensors["model.decoder.layers.5.self_attn.v_proj.weight"] = np.zeros((16, 32), np.float32)
    tensors["model.decoder.layers.0.mlp.up_proj.weight"] = np.zeros((32, 24), np.float32)
    tensors["model.decoder.layers.1.router.scale"] = np.ones(32, np.int32)
    write(folder, tensors)
    message = refusal(folder)
    assert "missing (2): " in message and "model.decoder.norm.weight" in message
    assert "model.encoder.language_model.layers.2.layer_scalar" in message
    assert "extra (1): model.decoder.layers.5.self_attn.v_proj.weight" in message
    assert "layers.0.mlp.up_proj.weight is [32, 24], not [24, 32]" in message
    assert "layers.1.router.scale is I32" in message
    assert "vision" not in message


def test_long_lists_are_cut(folder):
    write(folder, {"other": np.zeros(1, np.float32)})
    message = refusal(folder)
    assert "missing (143)" in message and "and 123 more" in message and len(message) < 3000


def test_tensor_in_two_files_is_refused(folder):
    save_file({"model.decoder.norm.weight": np.ones(32, np.float32)}, folder / "b.safetensors")
    assert "twice (1): model.decoder.norm.weight" in refusal(folder)


@pytest.mark.parametrize("size", [0, 100, 200_000])
def test_cut_file_is_refused(folder, size):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    message = refusal(folder)
    assert "model.safetensors is cut short or damaged" in message and "missing" not in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tensors_that_are_not_finite_are_named(folder, bad, dtype):
    tensors = {k: v.astype(dtype) for k, v in read(folder).items()}
    for name in ("model.decoder.layers.3.experts.down_proj", "model.decoder.norm.weight"):
        tensors[name].flat[-1] = bad
    write(folder, tensors)
    message = refusal(folder)
    assert "inf or nan (2)" in message
    assert "model.decoder.layers.3.experts.down_proj" in message
    assert "model.decoder.norm.weight" in message


def test_overflow_of_a_narrower_dtype_is_named(folder):
    tensors = read(folder)
    tensors["model.decoder.norm.weight"][0] = 1e6
    write(folder, tensors)
    load_checkpoint(folder)
    assert "inf or nan (1): model.decoder.norm.weight" in refusal(folder, dtype=np.float16)


def test_folder_without_config_or_weights_is_refused(folder, tmp_path):
    assert refusal(tmp_path / "nowhere").endswith("no such folder")
    (folder / "config.json").rename(tmp_path / "config.json")
    assert refusal(folder).endswith("no config.json")
    (folder / "config.json").write_text("{")
    assert "config.json: not JSON" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert refusal(folder).endswith("expected config.json and *.safetensors")


@pytest.mark.parametrize("dtype", ["int8", "float64", "bfloat17"])
def test_unknown_dtype_is_refused(folder, dtype):
    assert f"dtype {dtype}: expected one of float32, float16, bfloat16" in refusal(
        folder, dtype=dtype
    )


# Saving.


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


def test_save_refuses_a_sliding_last_layer(tmp_path):
    config = dataclasses.replace(ModelConfig.preset("tiny"), layer_types=("full", "sliding"))
    with pytest.raises(CheckpointError, match="wants a full attention layer last"):
        model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
        save_checkpoint(model, tmp_path / "out")


def test_save_refuses_a_folder_with_other_weights(tmp_path):
    shutil.copy(GOLDEN / "hf_six" / "model.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"other weights in the way \(1\): a\.safetensors"):
        save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path)


def test_save_to_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not be saved: File exists"):
        save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path / "file")


def test_save_casts_on_request(tmp_path):
    save_checkpoint(load_checkpoint(GOLDEN / "hf_six"), tmp_path, "bfloat16")
    before, after = text_tensors(GOLDEN / "hf_six"), read(tmp_path)
    for key, value in after.items():
        assert value.tobytes() == before[key].astype(ml_dtypes.bfloat16).tobytes(), key
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_finiteness_is_checked_to_the_last_element():
    array = np.zeros((1 << 21) + 3, np.float32)
    assert checkpoint._is_finite(array)
    array[-1] = np.nan
    assert not checkpoint._is_finite(array)
