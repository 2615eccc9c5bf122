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
# Fields of TEXT_FIELDS that are floats; the others are integers.
FLOATS = {"final_logit_softcapping", "rms_norm_eps"}

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
TOP_SPECIAL = {"text_config", "canvas_length", "eos_token_id"}

# Fields that must be absent or have one of these values, because this network has no other form.
CONSTANTS: dict[str, tuple] = {"chunk_size_feed_forward": (0,), "is_encoder_decoder": (False,)}
TEXT_CONSTANTS: dict[str, tuple] = CONSTANTS | {
    "model_type": ("diffusion_gemma_text",),
    "hidden_activation": ("gelu_pytorch_tanh",),
    "attention_bias": (False,),
    "attention_dropout": (0, None),
    "use_bidirectional_attention": ("vision", None),  # "vision" applies to images only
    "attention_k_eq_v": (True,),
    "enable_moe_block": (True,),
    "hidden_size_per_layer_input": (0, None),
    "num_kv_shared_layers": (0, None),
    "use_double_wide_mlp": (False,),
    "tie_word_embeddings": (True, False),  # transformers reads the field beside text_config
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
TOP_IGNORED = IGNORED | {"generation_config", "vision_config", "vision_soft_tokens_per_image"}
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
