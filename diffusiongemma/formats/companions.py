"""The small files that lie beside weights and go where the weights go.

These are the tokenizer, the chat template, the sampler's defaults, processors, the licence, and
whatever else a folder has. The kind is defined by what it is not: see is_companion.
"""

from pathlib import Path

from diffusiongemma.formats.checks import warn

# These four are read by this project. They go along in any case, and links are followed.
KNOWN = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)
LARGEST = 64 << 20  # bytes; the largest known companion is a tokenizer.json of 33 MB

# Files that a format writes itself, and files of a training run. Names with "_" or "." at the
# beginning are bookkeeping of Orbax and of git.
OTHERS = {
    "adapter_config.json",
    "commit_success.txt",
    "config.json",
    "manifest.ocdbt",
    "metrics.jsonl",
    "trainer_state.json",
}
# Endings of weights, and of data and logs that somebody put into the folder.
OTHER_ENDINGS = (
    ".index.json",
    ".safetensors",
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"),
    *(".gguf", ".npz", ".npy", ".h5", ".msgpack", ".onnx"),
    *(".jsonl", ".csv", ".parquet", ".log", ".tmp"),
)


def is_companion(name: str) -> bool:
    """Whether a file of this name goes along: it is no weights, index, config, data or log."""
    return (
        name not in OTHERS
        and not name.startswith(("_", "."))
        and (not name.lower().endswith(OTHER_ENDINGS))
    )


def companion_files(folder: Path) -> dict[str, Path]:
    """Name -> file, for the files at the top of a folder that go where its weights go.

    A file that is large, or that is a link out of the folder, stays behind with a warning. Links
    in a snapshot of the Hugging Face cache lead to the cache's own blobs and are followed.
    """
    files = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not file.is_file() or not is_companion(file.name):
            continue
        if file.name in KNOWN:
            files[file.name] = file
        elif not _stays_inside(file):
            warn(f"{file}: is a link to a file elsewhere and does not go along")
        elif file.stat().st_size > LARGEST:
            warn(f"{file}: is larger than {LARGEST >> 20} MiB and does not go along")
        else:
            files[file.name] = file
    return files


def _stays_inside(file: Path) -> bool:
    """Whether a file lies in its folder, or in the blobs of the Hugging Face cache around it."""
    folder, target = file.parent.resolve(), file.resolve()
    blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else folder
    return target.parent in (folder, blobs)
