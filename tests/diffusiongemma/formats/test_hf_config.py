"""config.json: the released one, transformers' one, ours, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from diffusiongemma.config import ModelConfig, five_to_one
from diffusiongemma.formats.hf_config import config_from_hf, config_to_hf
from diffusiongemma.formats.hf_vision_config import NO_VISION
from tests.diffusiongemma.formats.folders import TOWER

GOLDEN = Path(__file__).parents[2] / "golden"

# What Google released, as other projects quote it.
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
    "vision_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "chunk_size_feed_forward": 0,
        "default_output_length": 280,
        "dtype": "bfloat16",
        "global_head_dim": 72,
        "head_dim": 72,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "initializer_range": 0.02,
        "intermediate_size": 4304,
        "max_position_embeddings": 131072,
        "model_type": "gemma4_vision",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "num_key_value_heads": 16,
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "position_embedding_size": 10240,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
        "standardize": True,
        "use_clipped_linears": False,
    },
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


def golden(name: str) -> dict:
    return json.loads((GOLDEN / name / "config.json").read_text())


def test_released_config_is_the_26b_preset():
    assert config_from_hf(RELEASED) == ModelConfig.preset("26b_a4b")
    # transformers ties the head by the field beside text_config, whatever the one in it says.
    untied = RELEASED | {"text_config": RELEASED["text_config"] | {"tie_word_embeddings": False}}
    assert config_from_hf(untied) == ModelConfig.preset("26b_a4b")


@pytest.mark.parametrize("config", [ModelConfig.preset(n) for n in ("26b_a4b", "small", "tiny")])
def test_config_comes_back(config):
    odd = dataclasses.replace(
        config, rope_theta=500.0, full_rope_fraction=0.5, softcap=20.0, norm_eps=1e-5, eos_id=3
    )
    for c in (config, odd):
        assert config_from_hf(json.loads(json.dumps(config_to_hf(c)))) == c


def test_config_reads_full_layer_heads_from_either_place():
    """transformers 5.23.0 writes per_layer_config, the release has global_head_dim."""
    config = golden("hf_twelve")
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
        ({"is_encoder_decoder": True}, "text_config.is_encoder_decoder: True is not supported"),
        ({"quantization_config": {"bits": 4}}, "text_config.quantization_config: unknown field"),
        ({"hidden_size": "big"}, "hidden_size: expected a number, got 'big'"),
        ({"hidden_size": None}, "hidden_size: missing"),
        ({"num_experts": 0}, "num_experts: 0 is out of range"),
        ({"num_hidden_layers": 7}, "layer_types: 6 entries for 7 layers"),
        ({"layer_types": ["full_attention", "linear"] * 3}, "layer_types: unknown linear"),
        ({"layer_types": ["sliding_attention"] * 6}, "last layer must be full_attention"),
        ({"per_layer_config": {"0": {"head_dim": 4}}}, "per_layer_config: only heads of full"),
        ({"global_head_dim": 99}, "full layers differ in (KV"),
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
def test_unsupported_config_is_refused_by_name(text, said):
    config = golden("hf_six")
    config["text_config"] |= text
    with pytest.raises(ValueError) as caught:
        config_from_hf(config)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_bookkeeping_of_other_tools_is_ignored():
    both = {
        "_attn_implementation": "sdpa",
        "_commit_hash": "0a1b",
        "_name_or_path": "unsloth/model",
        "architectures": ["Any"],
        "dtype": "bfloat16",
        "eoa_token_index": 258883,
        "id2label": {"0": "LABEL_0"},
        "is_encoder_decoder": False,
        "model_name": "unsloth/model",
        "output_hidden_states": False,
        "quantization_config": None,
        "return_dict": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "5.24.0",
        "unsloth_fixed": True,
        "unsloth_version": "2026.5.1",
        "use_cache": False,
    }
    config = RELEASED | both | {"video_token_id": None, "audio_config": None}
    config["text_config"] = RELEASED["text_config"] | both
    assert config_from_hf(config) == ModelConfig.preset("26b_a4b")


def test_the_vision_part_is_read_with_transformers_defaults():
    both = {"vision_config": {"model_type": "gemma4_vision"}, "image_token_id": None}
    found = config_from_hf(RELEASED | both).vision
    assert (found.width, found.num_layers, found.head_dim, found.image_id) == (768, 16, 64, 258880)
    assert not found.standardize and not found.clipped and found.bidirectional
    text = RELEASED["text_config"] | {"use_bidirectional_attention": None}
    assert not config_from_hf(RELEASED | {"text_config": text}).vision.bidirectional
    odd = dataclasses.replace(ModelConfig.preset("26b_a4b"), vision=TOWER)
    assert config_from_hf(json.loads(json.dumps(config_to_hf(odd)))) == odd
    for vision in (None, NO_VISION):
        assert config_from_hf(RELEASED | {"vision_config": vision}).vision is None
    assert config_from_hf(RELEASED | {"vision_config": 3}, tower=False).vision is None


@pytest.mark.parametrize(
    ("vision", "said"),
    [
        ({"novelty": 1}, "vision_config.novelty: unknown field"),
        ({"hidden_activation": "silu"}, "vision_config.hidden_activation: 'silu' is not supported"),
        ({"hidden_size": 0}, "vision_config.hidden_size: 0 is out of range"),
        ({"standardize": 1}, "vision_config.standardize: expected true or false, got 1"),
        ({"head_dim": 6}, "vision: head_dim 6 must be a multiple of 4"),
        ({"num_key_value_heads": 5}, "vision: 16 query heads cannot share 5 KV heads"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.rope_type: 'yarn'"),
        ({"rope_parameters": 4}, "vision_config.rope_parameters: expected fields, got 4"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta: expected a number, got 'x'"),
    ],
)
def test_a_vision_part_that_is_not_supported_is_refused(vision, said):
    with pytest.raises(ValueError) as caught:
        config_from_hf(RELEASED | {"vision_config": RELEASED["vision_config"] | vision})
    assert said in str(caught.value)
    with pytest.raises(ValueError, match="vision_config: expected the fields of a tower, got None"):
        config_from_hf(RELEASED | {"vision_config": None}, tower=True)


def test_config_faults_are_reported_together():
    config = golden("hf_six") | {"surprise": 2, "is_encoder_decoder": True}
    config["text_config"] |= {"novelty": 1, "hidden_size": 0}
    with pytest.raises(ValueError) as caught:
        config_from_hf(config)
    for said in ("surprise", "novelty", "hidden_size", "is_encoder_decoder: True"):
        assert said in str(caught.value)
