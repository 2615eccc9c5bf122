"""The fields of a config.json of transformers 5.23.0: what each one means for this network.

A field is read, or must have a value that this network can express, or says nothing about the
network. hf_config.py refuses every other field.
"""

from diffusiongemma.config import LayerType

# Name of a field in text_config -> name of the field in ModelConfig.
TEXT_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "sliding_window": "window",
    "intermediate_size": "mlp_dim",
    "num_experts": "num_experts",
    "top_k_experts": "top_k",
    "moe_intermediate_size": "expert_dim",
    "max_position_embeddings": "max_length",
    "final_logit_softcapping": "softcap",
    "rms_norm_eps": "norm_eps",
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
}
# Fields of TEXT_FIELDS that may be absent: ModelConfig has a default for them.
MAY_BE_ABSENT = {"final_logit_softcapping", "rms_norm_eps", "pad_token_id", "bos_token_id"}
# Fields that are floats. Other numbers are integers.
FLOATS = {"final_logit_softcapping", "rms_norm_eps"}

# Name of a field in vision_config -> name of the field in VisionConfig, and what transformers takes
# if the field is absent.
VISION_FIELDS = {
    "hidden_size": ("width", 768),
    "num_hidden_layers": ("num_layers", 16),
    "num_attention_heads": ("num_heads", 12),
    "num_key_value_heads": ("num_kv_heads", 12),
    "head_dim": ("head_dim", 64),
    "intermediate_size": ("mlp_dim", 3072),
    "position_embedding_size": ("num_places", 10_240),
    "patch_size": ("patch_size", 16),
    "pooling_kernel_size": ("pool_size", 3),
    "rms_norm_eps": ("norm_eps", 1e-6),
    "use_clipped_linears": ("clipped", False),
    "standardize": ("standardize", False),
}
# The same for the ids beside vision_config.
IMAGE_IDS = {
    "image_token_id": ("image_id", 258_880),
    "boi_token_id": ("begin_image_id", 255_999),
    "eoi_token_id": ("end_image_id", 258_882),
}

LAYER_TYPES: dict[str, LayerType] = {"sliding_attention": "sliding", "full_attention": "full"}

# Fields that hf_config.py reads one by one.
TEXT_SPECIAL = {
    "num_hidden_layers",
    "layer_types",
    "global_head_dim",
    "num_global_key_value_heads",
    "per_layer_config",
    "rope_parameters",
    "eos_token_id",
}
TOP_SPECIAL = {"text_config", "canvas_length", "eos_token_id", "vision_config"}

# Fields that must be absent or have one of these values, because this network has no other form.
CONSTANTS: dict[str, tuple] = {"chunk_size_feed_forward": (0,), "is_encoder_decoder": (False,)}
TEXT_CONSTANTS: dict[str, tuple] = CONSTANTS | {
    "model_type": ("diffusion_gemma_text",),
    "hidden_activation": ("gelu_pytorch_tanh",),
    "attention_bias": (False,),
    "attention_dropout": (0, None),
    "use_bidirectional_attention": ("vision", None),  # VisionConfig.bidirectional
    "attention_k_eq_v": (True,),
    "enable_moe_block": (True,),
    "hidden_size_per_layer_input": (0, None),
    "num_kv_shared_layers": (0, None),
    "use_double_wide_mlp": (False,),
    "tie_word_embeddings": (True, False),  # transformers reads the field beside text_config
}
VISION_CONSTANTS: dict[str, tuple] = CONSTANTS | {
    "model_type": ("gemma4_vision",),
    "hidden_activation": ("gelu_pytorch_tanh",),
    "attention_bias": (False, None),
    "attention_dropout": (0, None),
}
TOP_CONSTANTS: dict[str, tuple] = CONSTANTS | {
    "model_type": ("diffusion_gemma",),
    "tie_word_embeddings": (True, False),  # with False, copies must be stored that are equal
}
# The constants that transformers 5.23.0 knows: only these are written.
WRITTEN_CONSTANTS = {
    "model_type",
    "hidden_activation",
    "attention_bias",
    "attention_dropout",
    "tie_word_embeddings",
    "use_bidirectional_attention",
}

# Fields that say nothing about the network: bookkeeping of transformers and of other tools, the
# initialisation of fresh weights, what a forward pass returns, and the task of a training.
IGNORED = {
    "architectures",
    "attn_implementation",
    "dtype",
    "experts_implementation",
    "finetuning_task",
    "id2label",
    "initializer_range",
    "keys_to_ignore_at_inference",
    "label2id",
    "model_name",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "problem_type",
    "processor_class",
    "return_dict",
    "router_aux_loss_coef",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
TEXT_IGNORED = IGNORED | {"vocab_size_per_layer_input"}
VISION_IGNORED = IGNORED | {"default_output_length", "global_head_dim", "max_position_embeddings"}
TOP_IGNORED = IGNORED | {"generation_config", "vision_soft_tokens_per_image"}
# Whole families of such fields: internals of transformers ("_name_or_path"), marks of unsloth, and
# ids of tokens that the network does not treat in any special way.
IGNORED_PREFIXES = ("_", "unsloth_")
IGNORED_SUFFIXES = ("_token_id", "_token_index")


def is_ignored(name: str, known: set[str]) -> bool:
    """Whether a field says nothing about the network.

    Args:
      name: the field.
      known: TEXT_IGNORED or TOP_IGNORED.
    """
    families = name.startswith(IGNORED_PREFIXES) or name.endswith(IGNORED_SUFFIXES)
    return name in known or families
