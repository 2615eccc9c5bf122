"""Arrays of a record as base64 texts, and back. docs/FORMATS.md describes the record."""

import base64
import binascii
from typing import NamedTuple

import numpy as np


class CandidateColumns(NamedTuple):
    """Candidates of S steps of C positions, at most k each.

    Attributes:
      ids: [S, C, k] int32, places in the record's list of tokens; -1 where there are fewer.
      probabilities: [S, C, k] uint8, 255 times the probability, rounded; 0 where there are fewer.
    """

    ids: np.ndarray
    probabilities: np.ndarray


def packed(data: np.ndarray) -> str:
    """The bytes of an array as base64."""
    return base64.b64encode(np.ascontiguousarray(data).tobytes()).decode()


def packed_bits(bits: np.ndarray) -> str:
    """Booleans as bits, the first one in the lowest bit of the first byte."""
    return packed(np.packbits(bits.reshape(-1), bitorder="little"))


def packed_ids(ids: np.ndarray, id_bytes: int) -> str:
    """Whole numbers of id_bytes bytes each, the lowest byte first."""
    return packed(ids.reshape(-1).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :id_bytes])


def pack_steps(ids: np.ndarray, id_bytes: int) -> dict[str, str]:
    """Ids [S, C], where they are others than at the step before."""
    changed = np.ones(ids.shape, bool)
    changed[1:] = ids[1:] != ids[:-1]
    return {"changed": packed_bits(changed), "ids": packed_ids(ids[changed], id_bytes)}


def pack_candidates(candidates: CandidateColumns, id_bytes: int) -> dict[str, str]:
    """Candidates, where they are others than at the step before."""
    ids, probabilities = candidates
    changed = np.ones(ids.shape[:2], bool)
    changed[1:] = (ids[1:] != ids[:-1]).any(-1) | (probabilities[1:] != probabilities[:-1]).any(-1)
    ids, probabilities = ids[changed], probabilities[changed]
    there = ids >= 0
    return {
        "changed": packed_bits(changed),
        "counts": packed(_halves(there.sum(axis=-1))),
        "ids": packed_ids(ids[there], id_bytes),
        "probabilities": packed(probabilities[there]),
    }


def unpacked(text: object, size: int | None = None) -> np.ndarray:
    """The bytes of a base64 text, [n] uint8.

    Args:
      text: what stands in the record.
      size: the number of bytes that it must have; None for any.

    Raises:
      ValueError: it is no base64 text, or has another size.
    """
    if not isinstance(text, str):
        raise ValueError(f"expected a base64 text, found {type(text).__name__}")
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        raise ValueError("not a base64 text") from None
    if size is not None and len(data) != size:
        raise ValueError(f"expected {size} bytes, found {len(data)}")
    return data


def unpacked_bits(text: object, size: int) -> np.ndarray:
    """[size] bool; raises ValueError as `unpacked`."""
    bits = np.unpackbits(unpacked(text, -(-size // 8)), bitorder="little")
    return bits[:size].astype(bool)


def unpacked_ids(text: object, id_bytes: int, tokens: int, size: int | None = None) -> np.ndarray:
    """[n] int32, places in a list of `tokens` tokens.

    Raises:
      ValueError: as `unpacked`, or a number is none of the list's.
    """
    data = unpacked(text, None if size is None else size * id_bytes)
    if len(data) % id_bytes:
        raise ValueError(f"{len(data)} bytes are no whole number of ids of {id_bytes} bytes")
    wide = np.zeros((len(data) // id_bytes, 4), np.uint8)
    wide[:, :id_bytes] = data.reshape(-1, id_bytes)
    ids = wide.view("<u4")[:, 0].astype(np.int32)
    if (ids >= tokens).any():
        raise ValueError(f"token {ids.max()} is not in the list of {tokens} tokens")
    return ids


def unpack_steps(column: dict, shape: tuple[int, int], id_bytes: int, tokens: int) -> np.ndarray:
    """Ids [S, C] int32; raises ValueError as `unpacked_ids`."""
    rows = _first_set(column["changed"], shape)
    ids = unpacked_ids(column["ids"], id_bytes, tokens, int(rows.max()) + 1)
    return ids[rows]


def unpack_candidates(
    column: dict, shape: tuple[int, int], most: int, id_bytes: int, tokens: int
) -> CandidateColumns:
    """At most `most` candidates of S steps of C positions.

    Raises:
      ValueError: as `unpacked_ids`, or a position has more candidates.
    """
    rows = _first_set(column["changed"], shape)
    number = int(rows.max()) + 1
    data = unpacked(column["counts"], -(-number // 2))
    counts = np.stack([data & 15, data >> 4], axis=1).reshape(-1)[:number]
    if (counts > most).any():
        raise ValueError(f"a position has {counts.max()} candidates, more than {most}")
    total = int(counts.sum())
    there = np.arange(most) < counts[:, None]
    ids = np.full(there.shape, -1, np.int32)
    probabilities = np.zeros(there.shape, np.uint8)
    ids[there] = unpacked_ids(column["ids"], id_bytes, tokens, total)
    probabilities[there] = unpacked(column["probabilities"], total)
    return CandidateColumns(ids[rows], probabilities[rows])


def _halves(counts: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 15, two in a byte, the first one in the lower half."""
    pairs = np.pad(counts, (0, len(counts) % 2)).astype(np.uint8).reshape(-1, 2)
    return pairs[:, 0] | pairs[:, 1] << 4


def _first_set(changed: object, shape: tuple[int, int]) -> np.ndarray:
    """For each step and position, the number of the value that holds there: [S, C] int."""
    bits = unpacked_bits(changed, shape[0] * shape[1]).reshape(shape)
    if not bits[0].all():
        raise ValueError("the first step must have a value at every position")
    number = np.cumsum(bits).reshape(shape) - 1
    return np.maximum.accumulate(np.where(bits, number, -1), axis=0)
