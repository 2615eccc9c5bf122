"""Tied tensors that a checkpoint stores more than once.

The head and the encoder share the decoder's tensors (except for layer scalars), and the released
folder stores a shared tensor once. Other tools store copies: "lm_head.weight", and the text weights
once more under "model.encoder.language_model.". This project has one set of weights. So it ignores
copies that are equal, and refuses others.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from diffusiongemma.formats.checks import raise_faults
from diffusiongemma.formats.safetensors_file import SLICE_BYTES, TensorHeader
from diffusiongemma.formats.weights import Part, Stored

DECODER, ENCODER = "model.decoder.", "model.encoder.language_model."
HEAD, EMBEDDING = "lm_head.weight", "model.decoder.embed_tokens.weight"
ONLY_DECODER = "model.decoder.self_conditioning."
FAULT = (
    "copies that are not equal to the tensors they are tied to; this model has one set of weights, "
    "so load a folder from before they were changed apart"
)


def known_copies(names: Iterable[str]) -> dict[str, str]:
    """Name of each copy that a checkpoint may have -> name of the tensor that it is tied to.

    Args:
      names: the names of all tensors of the model.
    """
    names = set(names)
    copies = {
        name.replace(DECODER, ENCODER): name
        for name in names
        if name.startswith(DECODER) and not name.startswith(ONLY_DECODER)
    }
    return {copy: name for copy, name in copies.items() if copy not in names} | {HEAD: EMBEDDING}


def renamed(headers: list[TensorHeader], copies: Mapping[str, str]) -> list[TensorHeader]:
    """Gives a copy the name of the tensor that it is tied to, if only the copy is stored."""
    found, result = {header.name for header in headers}, []
    for header in headers:
        name = copies.get(header.name, header.name)
        if name in found:
            name = header.name
        found.add(name)
        result.append(header._replace(name=name))
    return result


def with_checked_copies(stored: Stored, copies: Mapping[str, str]) -> Stored:
    """A checkpoint without its copies. They are compared when the whole tensor is read.

    Reading raises CheckpointError if a copy differs. The error names all copies that do.

    Args:
      stored: the checkpoint. Its tensors include the copies.
      copies: name of a copy in the checkpoint -> name of its tensor.
    """
    if not copies:
        return stored
    by_name: dict[str, list[str]] = {}
    for copy, name in copies.items():
        by_name.setdefault(name, []).append(copy)

    def read(name: str, part: Part = ...) -> np.ndarray:
        array = stored.read(name, part)
        if part is ... and not all(_equal(array, stored.read(c)) for c in by_name.get(name, ())):
            differ = [c for c, n in copies.items() if not _equal(stored.read(n), stored.read(c))]
            raise_faults(stored.folder, {FAULT: sorted(differ)})
        return array

    tensors = {name: t for name, t in stored.tensors.items() if name not in copies}
    return dataclasses.replace(stored, tensors=tensors, read=read)


def check_all_copies(folder: Path, found: Iterable[str], copies: Mapping[str, str]) -> None:
    """Checks a checkpoint whose config says that weights are not tied: it must have all copies.

    Raises:
      CheckpointError: copies are missing.
    """
    missing = sorted(set(copies) - set(found))
    fault = "missing, although tie_word_embeddings is false (if they are tied, write true)"
    raise_faults(folder, {fault: missing})


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tensors of one shape have equal elements, compared slice by slice."""
    rows = max(1, SLICE_BYTES // max(1, one[0].size * 4))
    parts = (slice(i, i + rows) for i in range(0, len(one), rows))
    if one.dtype == other.dtype:
        return all(one[part].tobytes() == other[part].tobytes() for part in parts)
    wide = np.float32
    return all(np.array_equal(one[p].astype(wide), other[p].astype(wide)) for p in parts)
