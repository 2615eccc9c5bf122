"""Checks and unpacks records (docs/FORMATS.md). What is wrong with one is said in one line."""

import math
from collections.abc import Callable
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
from sample.page.record import FORMAT, VERSION, Record

LARGEST = 2**20  # largest number of steps, positions, columns and so on that a record may name


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
    """Checks a record.

    Args:
      value: a value of JSON.
      place: where it stands, in words that the error begins with.

    Returns:
      the record.

    Raises:
      ValueError: it is no record. The error is one line that names the field.
    """
    _whole(value, place)
    return value


def unpack(record: Record) -> list[CanvasSteps]:
    """The steps of each canvas of a record; of canvases with texts alone, none.

    Raises:
      ValueError: as check_record.
    """
    return _whole(record, "the record")


def _whole(value: Any, place: str) -> list[CanvasSteps]:
    top = _Fields(value, place)
    if top.text("format") != FORMAT:
        raise ValueError(f"{place}: format is not {FORMAT!r}: this is no record of a generation")
    if top.number("version", 1) != VERSION:
        raise ValueError(f"{place}: version {value['version']}: this program reads {VERSION}")
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
        part = _Fields(canvas, f"{place}: canvases[{k}]", ".")
        found = _canvas(part, size, id_bytes, len(tokens), most, scale)
        if found is not None:
            steps.append(found)
    if steps and len(steps) < len(canvases):
        top.fail("canvases", "expected texts on all of them or on none")
    figures = _Fields(top.value["figures"] if "figures" in value else {}, f"{place}: figures", ".")
    for name in figures.value:
        figures.amount(name, optional=True)
    if "left_to_right" in value:
        other = _Fields(value["left_to_right"], f"{place}: left_to_right", ".")
        if not len(other.column("ids", lambda ids: unpacked_ids(ids, id_bytes, len(tokens)))):
            other.fail("ids", "expected at least one token")
        other.amount("seconds", optional=True)
    if "view" in value:
        _view(_Fields(value["view"], f"{place}: view", "."), size * len(canvases))
    return steps


def _canvas(
    part: "_Fields", size: int, id_bytes: int, tokens: int, most: int, scale: float
) -> CanvasSteps | None:
    count = part.number("steps", 1)
    part.number("valid", 0, size if "texts" not in part.value else LARGEST)
    means = part.items("mean_entropy")
    if len(means) != count or not all(_is_amount(x) for x in means):
        part.fail("mean_entropy", f"expected {count} numbers of nats, one for each step")
    if "texts" in part.value:
        texts, accepted = part.items("texts"), part.items("accepted_counts")
        if len(texts) != count or not all(isinstance(text, str) for text in texts):
            part.fail("texts", f"expected {count} texts, one for each step")
        if len(accepted) != count or not all(_is_amount(x) for x in accepted):
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


def _view(view: "_Fields", positions: int) -> None:
    if view.text("kind") != "grid":
        view.fail("kind", "expected 'grid'")
    columns = view.number("columns", 1)
    if "box" in view.value:
        view.number("box", 1)
    cells = view.items("cells")
    if not cells or len(cells) % columns:
        view.fail("cells", f"expected full rows of {columns} cells, found {len(cells)} cells")
    for name, limit in (("cells", positions), ("clues", len(cells))):
        if not all(_is_number(x) and 0 <= x < limit for x in view.items(name)):
            view.fail(name, f"expected whole numbers from 0 to {limit - 1}")
    if "right" in view.value:
        right = view.items("right")
        if len(right) != len(cells) or not all(isinstance(text, str) for text in right):
            view.fail("right", f"expected {len(cells)} texts, one for each cell")


class _Fields:
    """An object of a record, whose fields are read one by one.

    Args:
      value: what should be an object.
      place: where it stands.
      dot: what stands between the place and the name of a field.
    """

    def __init__(self, value: Any, place: str, dot: str = ": "):
        if not isinstance(value, dict):
            raise ValueError(f"{place}: expected an object, found {_kind(value)}")
        self.value, self._place, self._dot = value, place, dot

    def fail(self, name: str, fault: str) -> None:
        """Raises ValueError for a field."""
        raise ValueError(f"{self._place}{self._dot}{name}: {fault}")

    def _get(self, name: str) -> Any:
        if name not in self.value:
            raise ValueError(f"{self._place}{self._dot}{name} is missing")
        return self.value[name]

    def text(self, name: str) -> str:
        if not isinstance(found := self._get(name), str):
            self.fail(name, f"expected a text, found {_kind(found)}")
        return found

    def items(self, name: str) -> list[Any]:
        if not isinstance(found := self._get(name), list):
            self.fail(name, f"expected a list, found {_kind(found)}")
        return found

    def number(self, name: str, least: int, most: int = LARGEST) -> int:
        found = self._get(name)
        if not _is_number(found) or not least <= found <= most:
            self.fail(name, f"expected a whole number from {least} to {most}")
        return found

    def amount(self, name: str, optional: bool = False) -> float:
        found = self._get(name)
        if not (optional and found is None) and not _is_amount(found):
            self.fail(name, "expected a number that is not negative")
        return found

    def column(self, name: str, read: Callable[[Any], np.ndarray]) -> Any:
        """What `read` makes of a field; its faults get the field's name."""
        found = self._get(name)
        try:
            return read(found)
        except KeyError as error:
            self.fail(name, f"{error.args[0]} is missing")
        except (ValueError, TypeError) as error:
            fault = "expected an object" if isinstance(error, TypeError) else str(error)
            self.fail(name, fault)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_amount(value: Any) -> bool:
    return (_is_number(value) or isinstance(value, float)) and 0 <= value < math.inf


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), "a number" if _is_amount(value) else type(value).__name__)
