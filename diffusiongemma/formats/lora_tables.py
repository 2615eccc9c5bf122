"""LoRA factors in checkpoints, as tables (see convert.py): our names for them, and PEFT's.

A kernel [.., in, out] has the factors lora_a [.., in, r] and lora_b [.., r, out] beside it.
"""

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.tensor_tables import (
    HF,
    ORBAX,
    OURS,
    FileTensor,
    Row,
    file_tensors,
    split_axes,
)

KERNEL = ".kernel"


def _factors(kernel: str, axes: str) -> dict[str, str]:
    """The axes of the two factors beside a kernel, by their paths."""
    *experts, inputs, outputs = split_axes(axes)
    stem = kernel.removesuffix(KERNEL)
    return {
        f"{stem}.lora_a": " ".join([*experts, inputs, "r"]),
        f"{stem}.lora_b": " ".join([*experts, "r", outputs]),
    }


FACTORS = {
    path: axes
    for kernel, kernel_axes in OURS.items()
    if kernel.endswith(KERNEL)
    for path, axes in _factors(kernel, kernel_axes).items()
}

# In a run's checkpoint: one tensor for each factor, as it is.
RUN = tuple(
    Row(path, FACTORS[path], (path,), row.only)
    for row in ORBAX
    if row.name.endswith(KERNEL)
    for path in _factors(row.name, row.axes)
)


def encoders(name: str) -> str:
    """What the encoder calls a module, or a tensor, of the decoder's; the same if it has none."""
    return name.replace("model.decoder.layers.", "model.encoder.language_model.layers.")


def _peft_rows(row: Row) -> list[Row]:
    """PEFT's tensors for a linear map of transformers, whose axes are [out, in]: B A is the update.

    A stack of experts has its factors flattened into two matrices: A with the rank varying fastest,
    B with the expert. Decoder and encoder share their maps, and yet have factors each.
    """
    *experts, outputs, inputs = split_axes(row.axes)
    module = row.name.removesuffix(".weight")
    path_a, path_b = _factors(row.params[0], OURS[row.params[0]])
    axes_a = f"(E r) {inputs}" if experts else f"r {inputs}"
    axes_b = f"{outputs} (r E)" if experts else f"{outputs} r"
    return [
        Row(f"{name}.{factor}", axes, (path,), row.only)
        for name in dict.fromkeys((module, encoders(module)))
        for factor, axes, path in (("lora_A", axes_a, path_a), ("lora_B", axes_b, path_b))
    ]


# Of PEFT 0.21.2 on transformers 5.23.0, as module.lora_A and module.lora_B. What the file calls
# them depends on all that have factors: see peft_checkpoint.py.
PEFT = tuple(peft for row in HF if row.params[0].endswith(KERNEL) for peft in _peft_rows(row))


def factor_tensors(config: ModelConfig, table: tuple[Row, ...], rank: int) -> dict[str, FileTensor]:
    """Every tensor that the format of `table` can have for this model's factors."""
    return file_tensors(config, table, FACTORS, rank)
