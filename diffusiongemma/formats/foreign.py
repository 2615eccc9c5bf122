"""Checkpoints of other tools that are recognised in order to be refused in one line.

Published folders with fewer bits have many forms (float8, compressed-tensors, bitsandbytes, GPTQ,
AWQ, NVFP4, torchao, HQQ, quanto, MLX, GGUF), and none of them is read. Without this file the reader
would list hundreds of tensors that are missing or extra.
"""

import re
from pathlib import Path
from typing import Any

from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.config_file import read_json
from diffusiongemma.formats.safetensors_file import Headers

INSTEAD = (
    "load the unquantized release; scripts.convert --format=orbax --quantize=int4 makes it small"
)
# The end of a tensor's name -> the tool or method that has such tensors beside its weights.
ENDINGS = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    "_packed": "compressed-tensors",
    "_blocks": "MXFP4",
    ".weight_scale_2": "NVFP4 of ModelOpt",
    "_weight_qdata": "torchao",
    ".W_q": "HQQ",
    "._data": "quanto",
    ".scales": "MLX",
}
SCALES = (".weight_scale", ".weight_scale_inv")  # of several tools
SMALL = ("F8", "F6_", "F4", "I8", "U8")  # how safetensors' names of dtypes of few bits begin
MODELOPT = "hf_quant_config.json"
# How the hub's names of quantized folders end.
QUANTIZED_NAME = re.compile(
    r"(-unsloth|-bnb|-mlx|-w\da\d+)*-(\d-?bit|fp8|fp4|int[48]|awq|gptq|nvfp4|mxfp4|gguf)$", re.I
)
# Endings of files with pickled weights.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
ONE_EXPERT = re.compile(r"\.experts\.\d+\.")


def refuse_config(folder: Path, config: dict[str, Any]) -> None:
    """Refuses a folder whose config.json, or ModelOpt's own, says that its weights are quantized.

    Args:
      folder: the folder.
      config: the content of its config.json.

    Raises:
      CheckpointError: the weights are quantized. It names the method.
    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for field, tool in (("quantization_config", ""), ("quantization", "MLX")):
            if about := part.get(field):
                raise _refusal(folder, tool or _method(about))
    if (folder / MODELOPT).is_file():
        about = read_json(folder / MODELOPT).get("quantization") or {}
        if about.get("quant_algo"):
            raise _refusal(folder, _method({"quant_method": "modelopt"} | about))


def refuse_headers(folder: Path, headers: Headers) -> None:
    """Refuses a folder whose tensors are those of another tool, if that tool is recognised.

    Args:
      folder: the folder.
      headers: the headers of its tensors, which do not fit the model.

    Raises:
      CheckpointError: the tensors are quantized, or have experts one by one.
    """
    for ending, tool in ENDINGS.items():
        if found := next((h.name for h in headers.tensors if h.name.endswith(ending)), None):
            raise _refusal(folder, f"{tool}: it has {found}")
    small = sorted({str(h.dtype) for h in headers.tensors if str(h.dtype).startswith(SMALL)})
    if small:
        raise _refusal(folder, f"tensors in {', '.join(small)}")
    if found := next((h.name for h in headers.tensors if h.name.endswith(SCALES)), None):
        raise _refusal(folder, f"a scale beside each weight: it has {found}")
    if headers.metadata.get("format") == "mlx":
        raise CheckpointError(
            f"{folder}: its weights are in MLX's layout, which is not read: load the release, or "
            "a folder that transformers saved"
        )
    if found := next((h.name for h in headers.tensors if ONE_EXPERT.search(h.name)), None):
        raise CheckpointError(
            f"{folder}: its experts are stored one by one ({found}), and this layout is not read: "
            "load the release, or a folder that transformers saved, which stack them"
        )


def refuse_gguf(path: Path) -> None:
    """Refuses GGUF: a file of that format, or a folder with such files in it or one level deeper.

    Raises:
      CheckpointError: it is GGUF.
    """
    files = sorted((*path.glob("*"), *path.glob("*/*"))) if path.is_dir() else [path]
    if found := next((file for file in files if file.is_file() and _is_gguf(file)), None):
        raise CheckpointError(
            f"{path}: GGUF, the format of llama.cpp ({found.name}), is not read: {INSTEAD}"
        )


def refuse_pickles(folder: Path) -> None:
    """Raises CheckpointError if a folder, which has no safetensors, has pickled weights."""
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise CheckpointError(
            f"{folder}: has only pickle files ({', '.join(pickles)}), which are never read because "
            "they can run code: save the weights as safetensors"
        )


def unquantized(name: str) -> str:
    """A model's name in the hub without the ending that says how its weights are quantized."""
    return QUANTIZED_NAME.sub("", name)


def _is_gguf(file: Path) -> bool:
    """Whether a file is GGUF, by its name or by how it begins."""
    if file.suffix.lower() == ".gguf":
        return True
    with file.open("rb") as opened:
        return opened.read(4) == b"GGUF"


def _method(about: Any) -> str:
    """The name of a quantization method in a config.json, with its kind if it has kinds."""
    if not isinstance(about, dict):
        return str(about)
    method = about.get("quant_method") or about.get("quant_algo") or "an unknown method"
    kinds = [about.get("format"), about.get("quant_algo")]
    kinds += [f"{about['bits']} bits"] if "bits" in about else []
    kinds += [f"{n} bits" for n in (4, 8) if about.get(f"load_in_{n}bit")]
    named = ", ".join(str(kind) for kind in kinds if kind and kind != method)
    return f"{method} ({named})" if named else str(method)


def _refusal(folder: Path, method: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: its weights are quantized ({method}), and this format is not read: {INSTEAD}"
    )
