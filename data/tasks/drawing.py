"""How a page draws an answer: cells in a plane, what joins them, and demands that are counted.

`Task.view` returns what `Drawing.record` makes. A page (sample/page/) knows no task: at each step
it writes the token of each cell into the cell, colours it by the group of its text, and says which
demands are met. docs/FORMATS.md describes the fields.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

COLORS = ("red", "green", "blue", "black", "white", "brown", "yellow", "grey")
SHAPES = ("square", "round")
DEMANDS = ("sum", "run", "differ", "follow")
_GAP = 1.3  # from one round cell to the next, in units


class Group(NamedTuple):
    """Texts of one meaning.

    Attributes:
      name: the name in the legend.
      color: one of COLORS.
      texts: the texts, without white space at their ends. No text is in two groups.
    """

    name: str
    color: str
    texts: Sequence[str]

    def record(self) -> dict[str, Any]:
        return {"name": self.name, "color": self.color, "texts": list(self.texts)}


class Drawing(NamedTuple):
    """The cells of an answer, each of which is one token and takes one unit by one unit.

    Attributes:
      name: what the button is called that switches between the drawing and the text.
      size: width and height in units.
      cells: N positions in the answer.
      places: N pairs of units, the left upper corner of each cell.
      shape: one of SHAPES.
      clues: numbers of the cells that the prompt gives.
      right: the right text of each cell; empty if many answers may be right.
      names: a name of each cell, which stands above it; empty for none.
      groups: the groups of texts.
      links: pairs of cells with a line between them.
      lines: lines from (x, y) to (x, y), four units each.
      demands: what the answer must meet: the results of `total`, `run`, `differ` and `follow`.
    """

    name: str
    size: tuple[float, float]
    cells: Sequence[int]
    places: Sequence[tuple[float, float]]
    shape: str = "square"
    clues: Sequence[int] = ()
    right: Sequence[str] = ()
    names: Sequence[str] = ()
    groups: Sequence[Group] = ()
    links: Sequence[tuple[int, int]] = ()
    lines: Sequence[tuple[float, float, float, float]] = ()
    demands: Sequence[dict[str, Any]] = ()

    def record(self) -> dict[str, Any]:
        """The field `view` of a record, of JSON's types."""
        fields = {name: value for name, value in self._asdict().items() if len(value)}
        for name in fields.keys() - {"name", "shape"}:
            fields[name] = list(fields[name])
        fields |= {"groups": [g.record() for g in self.groups]} if self.groups else {}
        pairs = fields.keys() & {"places", "links", "lines"}
        return {"kind": "drawing", **fields} | {
            name: list(map(list, fields[name])) for name in pairs
        }


def total(title: str, weights: Sequence[int], wanted: int) -> dict[str, Any]:
    """A demand on the sum over all cells. `weights` has a whole number for each group."""
    return {"kind": "sum", "title": title, "weights": list(weights), "is": wanted}


def run(title: str, texts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """A demand for neighbouring cells somewhere. `texts` has the allowed texts of each of them."""
    return {"kind": "run", "title": title, "texts": [list(allowed) for allowed in texts]}


def differ(title: str) -> dict[str, Any]:
    """A demand that the two cells of each link have texts of two groups."""
    return {"kind": "differ", "title": title}


def follow(title: str, steps: int) -> dict[str, Any]:
    """A demand for one cell each with the numbers 1 to steps + 1, and links from each to the next.

    Other cells have the number 0.
    """
    return {"kind": "follow", "title": title, "is": steps}


def grid(
    columns: int,
    cells: Sequence[int],
    clues: Sequence[int],
    box: int = 0,
    right: Sequence[str] = (),
) -> Drawing:
    """Full rows of cells.

    Args:
      columns: number of cells of a row.
      cells, clues, right: as in Drawing.
      box: side of a box, around which there are lines; 0 for none.
    """
    rows = len(cells) // columns
    lines = []
    if box:
        upright = [(x, 0, x, rows) for x in range(0, columns + 1, box)]
        lines = [*upright, *((0, y, columns, y) for y in range(0, rows + 1, box))]
    places = [(i % columns, i // columns) for i in range(len(cells))]
    parts = {"clues": clues, "right": right, "lines": lines}
    return Drawing("Grid", (columns, rows), cells, places, **parts)


def circle(count: int) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """Places on a circle for round cells with names.

    Returns:
      (size, places) of a Drawing. The first cell is at the top, and the others follow clockwise.
    """
    radius = max(1.6, count * _GAP / (2 * math.pi))
    angles = [2 * math.pi * i / count for i in range(count)]
    places = [
        (round(radius * (1 + math.sin(a)), 3), round(radius * (1 - math.cos(a)) + 0.3, 3))
        for a in angles
    ]
    return (round(2 * radius + 1, 3), round(2 * radius + 1.3, 3)), places
