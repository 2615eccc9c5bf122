"""The flags of scripts.benchmark."""

from absl import flags

PUBLISHED_TPF = 19.74  # tokens per forward in the technical report (TR)


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    here = {"flag_values": values}
    flags.DEFINE_string("preset", "small", "Model shape by the name of a preset.", **here)
    dtypes, help = ["float32", "bfloat16"], "Dtype of the weights that are not quantized."
    flags.DEFINE_enum("dtype", "float32", dtypes, help, **here)
    help = "Precision of quantized weights. Default: weights are not quantized."
    flags.DEFINE_enum("quantize", None, ["int8", "int4"], help, **here)
    help = "How experts, attention and head are computed. Default: the platform's way."
    flags.DEFINE_enum("backend", None, ["reference", "loop", "pallas"], help, **here)
    for name, default, help in (
        ("batch", 1, "Number of rows."),
        ("context", 256, "Number of tokens in the KV cache."),
        ("prefill_chunk", 2048, "Number of prompt tokens that prefill reads at a time."),
        ("steps", 8, "Number of denoising steps of a canvas."),
        ("repeats", 7, "Number of times that each measurement is made."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, **here)
    help = "Tokens per forward, from which tokens a second are computed. Default: as published."
    flags.DEFINE_float("tpf", PUBLISHED_TPF, help, **here)
    help = "Numbers of experts with which the MoE part is measured too, such as 8,32,128."
    flags.DEFINE_list("experts", [], help, **here)
    help = "Implementation that is measured beside this one."
    flags.DEFINE_enum("peer", None, ["transformers"], help, **here)
    help = "Path of a Python that has torch and transformers, for --peer."
    flags.DEFINE_string("peer_python", None, help, **here)
    flags.DEFINE_boolean("train", False, "With --peer, measure training steps too.", **here)
    help = "Measure the parts of a step too, and count the experts that it touches."
    flags.DEFINE_boolean("parts", True, help, **here)
    help = "Rank of LoRA factors, whose training step is measured too. 0: no training step."
    flags.DEFINE_integer("lora", 0, help, lower_bound=0, **here)
    flags.DEFINE_string("out", None, "Folder for benchmark.json and benchmark.png.", **here)
    return values
