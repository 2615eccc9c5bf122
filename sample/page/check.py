"""Checks and unpacks records (docs/FORMATS.md). What is wrong with one is said in one line."""

from typing import Any, NamedTuple

import numpy as np

from sample.page.columns import (
    CandidateColumns,
    unpack_candidates,
    unpack_steps,
    unpacked,
    unpacked_bits,
    unpacked_ids,
)
from sample.page.fields import LARGEST, Fields, is_amount
from sample.page.record import FORMAT, VERSION, Record
from sample.page.view import check_drawing, check_grid, drawing_of

READ = (1, VERSION)  # a record of version 1 has no other view than a grid


class CanvasSteps(NamedTuple):
    """The S steps of a canvas of C tokens, as a record has them.

    Attributes:
      canvas, best: [S, C] int32, places in the record's list of tokens.
      accepted: [S, C] bool.
      entropy: [S, C] float32, nats, rounded as the record rounds them.
      kept: [C] bool.
      candidates: at most k of each position; None if the record has none.
    """

    canvas: np.ndarray
    best: np.ndarray
    accepted: np.ndarray
    entropy: np.ndarray
    kept: np.ndarray
    candidates: CandidateColumns | None


def is_record(value: Any) -> bool:
    """Whether a JSON value claims to be a record."""
    return isinstance(value, dict) and value.get("format") == FORMAT


def check_record(value: Any, place: str) -> Record:
    """Checks a record, and brings one of version 1 up to date.

    Args:
      value: a value of JSON.
      place: where it stands, in words that the error begins with.

    Returns:
      the record, in the version that is written today.

    Raises:
      ValueError: it is no record. The error is one line that names the field.
    """
    _whole(value, place)
    if value["version"] == VERSION:
        return value
    view = {"view": drawing_of(value["view"])} if "view" in value else {}
    return {**value, "version": VERSION, **view}


def unpack(record: Record) -> list[CanvasSteps]:
    """The steps of each canvas of a record; of canvases with texts alone, none.

    Raises:
      ValueError: as check_record.
    """
    return _whole(record, "the record")


def _whole(value: Any, place: str) -> list[CanvasSteps]:
    top = Fields(value, place)
    if top.text("format") != FORMAT:
        raise ValueError(f"{place}: format is not {FORMAT!r}: this is no record of a generation")
    if (version := top.number("version", 1)) not in READ:
        raise ValueError(f"{place}: version {version}: this program reads 1 and {VERSION}")
    for name in ("title", "prompt", "model"):
        top.text(name)
    tokens = top.items("tokens")
    for i, token in enumerate(tokens):
        if not isinstance(token, str):
            top.fail(f"tokens[{i}]", "expected a text")
    id_bytes, size = top.number("id_bytes", 1, 3), top.number("canvas_size", 1)
    top.number("max_steps", 1)
    top.amount("stop_threshold", optional=True)
    most, scale = top.number("candidates", 0, 15), top.amount("entropy_scale")
    top.number("least_probability", 0, 256)
    canvases = top.items("canvases")
    if not canvases:
        top.fail("canvases", "expected at least one canvas")
    steps = []
    for k, canvas in enumerate(canvases):
        part = Fields(canvas, f"{place}: canvases[{k}]", ".")
        found = _canvas(part, size, id_bytes, len(tokens), most, scale)
        if found is not None:
            steps.append(found)
    if steps and len(steps) < len(canvases):
        top.fail("canvases", "expected texts on all of them or on none")
    figures = Fields(top.value["figures"] if "figures" in value else {}, f"{place}: figures", ".")
    for name in figures.value:
        figures.amount(name, optional=True)
    if "left_to_right" in value:
        other = Fields(value["left_to_right"], f"{place}: left_to_right", ".")
        if not len(other.column("ids", lambda ids: unpacked_ids(ids, id_bytes, len(tokens)))):
            other.fail("ids", "expected at least one token")
        other.amount("seconds", optional=True)
    if "view" in value:
        check = check_grid if version == 1 else check_drawing
        check(Fields(value["view"], f"{place}: view", "."), size * len(canvases))
    return steps


def _canvas(
    part: "Fields", size: int, id_bytes: int, tokens: int, most: int, scale: float
) -> CanvasSteps | None:
    count = part.number("steps", 1)
    part.number("valid", 0, size if "texts" not in part.value else LARGEST)
    means = part.items("mean_entropy")
    if len(means) != count or not all(is_amount(x) for x in means):
        part.fail("mean_entropy", f"expected {count} numbers of nats, one for each step")
    if "texts" in part.value:
        texts, accepted = part.items("texts"), part.items("accepted_counts")
        if len(texts) != count or not all(isinstance(text, str) for text in texts):
            part.fail("texts", f"expected {count} texts, one for each step")
        if len(accepted) != count or not all(is_amount(x) for x in accepted):
            part.fail("accepted_counts", f"expected {count} numbers, one for each step")
        return None
    shape = count, size

    def ids(column: Any) -> np.ndarray:
        return unpack_steps(column, shape, id_bytes, tokens)

    entropy = part.column("entropy", lambda text: unpacked(text, count * size))
    candidates = None
    if "candidates" in part.value:
        candidates = part.column(
            "candidates",
            lambda column: unpack_candidates(column, shape, most, id_bytes, tokens),
        )
    kept = np.zeros(size, bool)
    if "kept" in part.value:
        kept = part.column("kept", lambda text: unpacked_bits(text, size))
    return CanvasSteps(
        part.column("canvas", ids),
        part.column("best", ids),
        part.column("accepted", lambda text: unpacked_bits(text, count * size)).reshape(shape),
        (scale * (entropy.astype(np.float32) / 255) ** 3).reshape(shape),
        kept,
        candidates,
    )
