"""Names and axes of LoRA factors in checkpoints, as tables (see tensor_tables.py).

A kernel [.., in, out] has two factors beside it: lora_a [.., in, r] and lora_b [.., r, out].
"""

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.tensor_tables import HF, OWN, FileTensor, TableRow, file_tensors
from diffusiongemma.parameters import OURS, split_axes

KERNEL = ".kernel"


def _factors(kernel: str, axes: str) -> dict[str, str]:
    """path -> axes of the two factors beside a kernel."""
    *experts, inputs, outputs = split_axes(axes)
    stem = kernel.removesuffix(KERNEL)
    return {
        f"{stem}.lora_a": " ".join([*experts, inputs, "r"]),
        f"{stem}.lora_b": " ".join([*experts, "r", outputs]),
    }


# Path of a factor -> its axes.
FACTORS = {
    path: axes
    for kernel, kernel_axes in OURS.items()
    if kernel.endswith(KERNEL)
    for path, axes in _factors(kernel, kernel_axes).items()
}

# The checkpoint of a training run has one tensor for each factor, in the factor's own layout.
RUN = tuple(
    TableRow(path, FACTORS[path], (path,), row.only)
    for row in OWN
    if row.name.endswith(KERNEL)
    for path in _factors(row.name, row.axes)
)


def encoders(name: str) -> str:
    """The encoder's name for a module or tensor of the decoder.

    It is the same name for what only the decoder has.
    """
    return name.replace("model.decoder.layers.", "model.encoder.language_model.layers.")


def _peft_rows(row: TableRow) -> list[TableRow]:
    """The rows of PEFT's table for one linear map of transformers [out, in]; its update is B A.

    The factors of a stack of experts are flattened into two matrices: the rank varies fastest in A,
    the expert varies fastest in B. Decoder and encoder share their maps, but PEFT gives each of the
    two its own factors.
    """
    *experts, outputs, inputs = split_axes(row.axes)
    module = row.name.removesuffix(".weight")
    path_a, path_b = _factors(row.params[0], OURS[row.params[0]])
    axes_a = f"(E r) {inputs}" if experts else f"r {inputs}"
    axes_b = f"{outputs} (r E)" if experts else f"{outputs} r"
    return [
        TableRow(f"{name}.{factor}", axes, (path,), row.only)
        for name in dict.fromkeys((module, encoders(module)))
        for factor, axes, path in (("lora_A", axes_a, path_a), ("lora_B", axes_b, path_b))
    ]


# PEFT 0.21.2 on transformers 5.23.0, with the names module.lora_A and module.lora_B. The names in
# the file also depend on which other modules have factors: see peft.py.
PEFT = tuple(peft for row in HF if row.params[0].endswith(KERNEL) for peft in _peft_rows(row))


def factor_tensors(
    config: ModelConfig, table: tuple[TableRow, ...], rank: int
) -> dict[str, FileTensor]:
    """Every tensor that a format can have for LoRA factors of this model: name -> FileTensor."""
    return file_tensors(config, table, FACTORS, rank)
