"""The small files that lie beside weights and are copied to wherever the weights are written.

These are the tokenizer, the chat template, the sampler's defaults, processors, the licence, and
whatever else a folder has. The kind is defined by what it is not: see is_companion.
"""

from collections.abc import Collection
from pathlib import Path

from diffusiongemma.formats.checks import CheckpointError, download_fault, warn
from files.inside import check_inside, is_inside
from files.json_text import read_json
from files.whole_file import write_file

# These five are read by this project. They are copied whatever their size, and it is an error if
# they cannot be.
KNOWN = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "sampler.json",
)
CARD = "README.md"  # the model card describes these weights, and no others
ELSEWHERE = "is or has a link to a file elsewhere"
LARGEST = 64 << 20  # bytes; the largest known companion is a tokenizer.json of 33 MB

# Files and folders that a format writes itself, and those of a training run. Names with "_" or "."
# at the beginning are bookkeeping of Orbax and of git.
OTHERS = {
    "adapter_config.json",
    "commit_success.txt",
    "config.json",
    "manifest.ocdbt",
    "metrics.jsonl",
    "trainer_state.json",
    *("adapter", "array_metadatas", "checkpoints", "d", "data", "model", "ocdbt.process_0"),
    *("optimizer", "params", "log", "logs", "runs", "tb"),
}
# Endings of weights, and of data and logs that somebody put into the folder.
OTHER_ENDINGS = (
    ".index.json",
    ".safetensors",
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"),
    *(".gguf", ".npz", ".npy", ".h5", ".msgpack", ".onnx"),
    *(".jsonl", ".csv", ".parquet", ".log", ".tmp", ".lock", ".unfinished"),
)


def is_companion(name: str) -> bool:
    """Whether a file of this name is copied: it is no weights, index, config, data or log."""
    return (
        name not in OTHERS
        and not name.startswith(("_", "."))
        and (not name.lower().endswith(OTHER_ENDINGS))
    )


def companion_files(folder: Path) -> dict[str, Path]:
    """Name -> file, for the small files of a folder that are copied with its weights.

    The name of a file in a subfolder is its path from the folder, such as "assets/logo.png".

    Raises:
      CheckpointError: a file of KNOWN is a link that leads out of the folder, or a pipe.
    """
    return _divided(folder)[0]


def check_companions(folder: Path) -> None:
    """Checks that the files that will be copied can be, before hours of work.

    Raises:
      CheckpointError: a file of KNOWN is a link that leads out of the folder, or is not what its
        name says.
    """
    for name, file in companion_files(folder).items():
        if name in KNOWN and (fault := _fault(file)):
            raise CheckpointError(f"{file}: {fault}")


def copy_companions(
    folder: Path, target: Path, *, card: bool = True, never: Collection[str] = ()
) -> None:
    """Copies the companions of a folder, and warns of what else lies there and is not copied.

    Args:
      folder: the folder.
      target: the folder that gets the files. Files of the same names are replaced.
      card: whether README.md is copied too: True if the weights in the target are the folder's.
      never: names of files and folders in the target that are not replaced.

    Raises:
      OSError: a file cannot be read or written. Files are copied whole or not at all.
    """
    files, left_out = _divided(folder)
    for entry, reason in left_out.items():
        if not target.resolve().is_relative_to(entry.resolve()):
            warn(f"{entry}: {reason}, so it is not copied")
    for name, file in files.items():
        if Path(name).parts[0] in never or (name == CARD and not card):
            continue
        if fault := _fault(file):
            warn(f"{file}: {fault}. It is not copied")
        else:
            write_file(target / name, file.read_bytes())


def _divided(folder: Path) -> tuple[dict[str, Path], dict[Path, str]]:
    """Name -> file of each companion; and file or subfolder -> why it is left out.

    A subfolder is copied whole or not at all. What is no companion by its name is in neither.
    """
    files, left_out = {}, {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not is_companion(entry.name):
            continue
        if entry.name in KNOWN:
            _check_known(folder, entry)
        elif entry.exists() and not is_inside(folder, entry):
            left_out[entry] = ELSEWHERE
            continue
        inside = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
        inside = [file for file in inside if file.is_file() and not file.name.startswith(".")]
        if entry.name not in KNOWN and (reason := _hindrance(folder, inside)):
            left_out[entry] = reason
            continue
        files |= {str(file.relative_to(folder)): file for file in inside}
    return files, left_out


def _check_known(folder: Path, file: Path) -> None:
    try:
        check_inside(folder, file)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def _hindrance(folder: Path, files: list[Path]) -> str:
    """Why a file of the folder, or the files of a subfolder, are not copied; "" if they are."""
    for file in files:
        if not is_companion(file.name):
            return f"holds a checkpoint, data or logs ({file.name})"
        if not is_inside(folder, file):
            return ELSEWHERE
    if sum(file.stat().st_size for file in files) > LARGEST:
        return f"is larger than {LARGEST >> 20} MiB"
    return ""


def _fault(file: Path) -> str:
    """Why a file is not what its name says; "" if it is, or if its name says nothing."""
    kind = file.suffix.lower()
    if kind not in (".json", ".jinja"):
        return ""
    if fault := download_fault(file):
        return fault
    try:
        text = file.read_text(encoding="utf-8-sig")
        if kind == ".json":
            read_json(text)
    except UnicodeDecodeError:
        return "is no UTF-8 text"
    except ValueError:
        return "is no JSON"
    return ""
