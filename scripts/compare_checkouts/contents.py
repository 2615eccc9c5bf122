"""What a result consists of: named pieces of bytes, so that two results can be compared."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorstore as ts

MANIFEST = "manifest.ocdbt"  # in the root of an OCDBT store, where Orbax keeps tensors
TIMES = {"_CHECKPOINT_METADATA", "commit_success.txt"}  # they hold the time of writing


def of_arrays(file: Path) -> dict[str, bytes]:
    """The arrays of an .npz file, with their dtypes and shapes."""
    with np.load(file, allow_pickle=True) as arrays:
        return {
            f"{name} {list(array.shape)}": f"{array.dtype}{array.shape}".encode() + array.tobytes()
            for name, array in arrays.items()
        }


def of_folder(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint's folder; of an OCDBT store its keys instead of its files.

    The names of the store's files are random, and its keys and values are what a reader sees.
    """
    stores = [file.parent for file in sorted(folder.rglob(MANIFEST))]
    roots = [store for store in stores if not any(other in store.parents for other in stores)]
    found = {}
    for root in roots:
        found |= {f"{root.relative_to(folder)}:{key}": value for key, value in _store(root)}
    for file in sorted(folder.rglob("*")):
        inside = any(root in file.parents and is_of_store(file, root) for root in roots)
        if file.is_file() and file.name not in TIMES and not inside:
            found[str(file.relative_to(folder))] = file.read_bytes()
    return found


def is_of_store(file: Path, root: Path) -> bool:
    """Whether a file below an OCDBT store's root belongs to the store itself."""
    top = file.relative_to(root).parts[0]
    return top in (MANIFEST, "d") or top.startswith("ocdbt.")


def _store(root: Path) -> Iterator[tuple[str, bytes]]:
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{root}/"}).result()
    for key in sorted(store.list().result()):
        yield key.decode(), store.read(key).result().value


def of_metrics(file: Path) -> dict[str, bytes]:
    """The figures of each step in a run's metrics.jsonl, without the times."""
    found = {}
    for line in file.read_text().splitlines():
        figures = json.loads(line)
        step = figures.pop("step")
        figures.pop("seconds", None)
        for name, value in figures.items():
            found[f"step {step}: {name}"] = json.dumps(value).encode()
    return found


def digest(contents: dict[str, bytes]) -> str:
    """Ten hexadecimal digits that stand for all names and all bytes."""
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(name.encode() + b"\0" + hashlib.sha256(contents[name]).digest())
    return total.hexdigest()[:10]


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """The names of pieces that are not in both, or not equal in both."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
