"""Checks how a record says that its answer is drawn (data/tasks/drawing.py)."""

from collections.abc import Sequence
from typing import Any

from data.tasks.drawing import COLORS, DEMANDS, SHAPES, grid
from sample.page.fields import Fields, is_amount, is_number

WIDEST = 1000  # units


def check_drawing(view: Fields, positions: int) -> None:
    """Checks the view of a record.

    Args:
      view: its fields.
      positions: number of positions that all canvases have together.

    Raises:
      ValueError: a field is wrong. The error is one line that names it.
    """
    _choice(view, "kind", ("drawing",))
    view.text("name")
    _choice(view, "shape", SHAPES)
    size = view.items("size")
    if len(size) != 2 or not all(is_amount(x) and 0 < x <= WIDEST for x in size):
        view.fail("size", f"expected width and height, numbers up to {WIDEST}")
    cells = _indices(view, "cells", positions)
    if not cells:
        view.fail("cells", "expected at least one cell")
    for name, length in (("places", 2), ("lines", 4), ("links", 2)):
        if name in view.value or name == "places":
            _rows(view, name, length, len(cells) if name == "links" else None)
    if len(view.value["places"]) != len(cells):
        view.fail("places", f"expected {len(cells)} pairs, one for each cell")
    if "clues" in view.value:
        _indices(view, "clues", len(cells))
    for name in ("right", "names"):
        if name in view.value and len(_texts(view, name, view.items(name))) != len(cells):
            view.fail(name, f"expected {len(cells)} texts, one for each cell")
    groups = view.parts("groups")
    for group in groups:
        group.text("name")
        _choice(group, "color", COLORS)
        _texts(group, "texts", group.items("texts"))
    for demand in view.parts("demands"):
        _demand(demand, len(groups))


def check_grid(view: Fields, positions: int) -> None:
    """Checks the view of a record of version 1; raises ValueError as check_drawing."""
    _choice(view, "kind", ("grid",))
    columns = view.number("columns", 1)
    if "box" in view.value:
        view.number("box", 1)
    cells = _indices(view, "cells", positions)
    if not cells or len(cells) % columns:
        view.fail("cells", f"expected full rows of {columns} cells, found {len(cells)} cells")
    _indices(view, "clues", len(cells))
    if "right" in view.value and len(_texts(view, "right", view.items("right"))) != len(cells):
        view.fail("right", f"expected {len(cells)} texts, one for each cell")


def drawing_of(view: dict[str, Any]) -> dict[str, Any]:
    """The view of version 2 that draws a checked one of version 1."""
    parts = view["columns"], view["cells"], view["clues"], view.get("box", 0)
    return grid(*parts, view.get("right", ())).record()


def _demand(demand: Fields, groups: int) -> None:
    kind = _choice(demand, "kind", DEMANDS)
    demand.text("title")
    if kind == "sum":
        weights = demand.items("weights")
        if len(weights) != groups or not all(map(is_number, weights)):
            demand.fail("weights", f"expected {groups} whole numbers, one for each group")
        if not is_number(demand.value.get("is")):
            demand.fail("is", "expected a whole number")
    elif kind == "follow":
        demand.number("is", 1)
    elif kind == "run":
        allowed = demand.items("texts")
        if not allowed or not all(isinstance(texts, list) for texts in allowed):
            demand.fail("texts", "expected a list of texts for each cell of the run")
        for texts in allowed:
            _texts(demand, "texts", texts)


def _choice(fields: Fields, name: str, choices: Sequence[str]) -> str:
    if (found := fields.text(name)) not in choices:
        fields.fail(name, f"expected {' or '.join(map(repr, choices))}")
    return found


def _texts(fields: Fields, name: str, values: list[Any]) -> list[str]:
    if not all(isinstance(text, str) for text in values):
        fields.fail(name, "expected texts")
    return values


def _indices(fields: Fields, name: str, limit: int) -> list[int]:
    found = fields.items(name)
    if not all(is_number(x) and 0 <= x < limit for x in found):
        fields.fail(name, f"expected whole numbers from 0 to {limit - 1}")
    return found


def _rows(fields: Fields, name: str, length: int, limit: int | None) -> None:
    """Checks a list of lists of so many numbers, whole ones below a limit if there is one."""
    for row in fields.items(name):
        fits = isinstance(row, list) and len(row) == length and all(map(is_amount, row))
        if fits and limit is not None:
            fits = all(is_number(x) and x < limit for x in row)
        if not fits or max(row) > WIDEST:
            numbers = f"whole numbers from 0 to {limit - 1}" if limit else f"numbers up to {WIDEST}"
            fields.fail(name, f"expected lists of {length} {numbers}")
