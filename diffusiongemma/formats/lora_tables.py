"""Names and axes of LoRA factors in checkpoints, as tables (see tensor_tables.py).

A kernel [.., in, out] has two factors beside it: lora_a [.., in, r] and lora_b [.., r, out]. In a
layer, each mode may have a pair of its own (diffusiongemma/lora.py).
"""

from diffusiongemma.config import Mode, ModelConfig
from diffusiongemma.formats.tensor_tables import HF, OWN, FileTensor, TableRow, file_tensors
from diffusiongemma.lora import NAMES
from diffusiongemma.parameters import OURS, split_axes

KERNEL = ".kernel"


def modes_of(path: str) -> list[Mode | None]:
    """The modes that a linear map may have factors for. None stands for both in one pair."""
    return list(NAMES) if path.startswith("layers.") else [None]


def pair_paths(map_path: str, mode: Mode | None) -> list[str]:
    """The paths of the two factors that a linear map has for a mode."""
    return [f"{map_path}.{name}" for name in NAMES[mode]]


def _factors(kernel: str, mode: Mode | None) -> dict[str, str]:
    """path -> axes of the two factors beside a kernel of OURS."""
    *experts, inputs, outputs = split_axes(OURS[kernel])
    axes = [*experts, inputs, "r"], [*experts, "r", outputs]
    paths = pair_paths(kernel.removesuffix(KERNEL), mode)
    return {path: " ".join(own) for path, own in zip(paths, axes, strict=True)}


# Path of a factor -> its axes.
FACTORS = {
    path: axes
    for kernel in OURS
    if kernel.endswith(KERNEL)
    for mode in modes_of(kernel)
    for path, axes in _factors(kernel, mode).items()
}

# The checkpoint of a training run has one tensor for each factor, in the factor's own layout.
RUN = tuple(
    TableRow(path, FACTORS[path], (path,), row.only)
    for row in OWN
    if row.name.endswith(KERNEL)
    for mode in modes_of(row.name)
    for path in _factors(row.name, mode)
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
    two its own factors: those of the decoder are for denoise, and those of the encoder for encode.
    """
    *experts, outputs, inputs = split_axes(row.axes)
    module = row.name.removesuffix(".weight")
    axes_a = f"(E r) {inputs}" if experts else f"r {inputs}"
    axes_b = f"{outputs} (r E)" if experts else f"{outputs} r"
    modes: dict[str, Mode | None] = {module: None}
    if encoders(module) != module:
        modes = {module: "denoise", encoders(module): "encode"}
    rows = []
    for name, mode in modes.items():
        path_a, path_b = pair_paths(row.params[0].removesuffix(KERNEL), mode)
        rows.append(TableRow(f"{name}.lora_A", axes_a, (path_a,), row.only))
        rows.append(TableRow(f"{name}.lora_B", axes_b, (path_b,), row.only))
    return rows


# PEFT 0.21.2 on transformers 5.23.0, with the names module.lora_A and module.lora_B. The names in
# the file also depend on which other modules have factors: see peft.py.
PEFT = tuple(peft for row in HF if row.params[0].endswith(KERNEL) for peft in _peft_rows(row))


def factor_tensors(
    config: ModelConfig, table: tuple[TableRow, ...], rank: int
) -> dict[str, FileTensor]:
    """Every tensor that a format can have for LoRA factors of this model: name -> FileTensor."""
    return file_tensors(config, table, FACTORS, rank)
