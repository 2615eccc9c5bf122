"""How a page draws a graph: its vertices on a circle, in the colours that the canvas names."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.tasks.drawing import Drawing, Group, circle, differ, follow
from data.tasks.graph_answers import COLORS, NAMES


def graph_view(
    edges: np.ndarray, answer: np.ndarray, cells: Sequence[int], marks: Sequence[str]
) -> dict[str, Any]:
    """The view of a graph that is coloured, or in which a path is found.

    Args:
      edges: [M, 2] int, vertices 0..n-1.
      answer: [n] int, the numbers of the marks of a right answer.
      cells: n positions, those of the marks in the answer.
      marks: what may stand there, colours or the places on a path.
    """
    if marks[0] in COLORS:
        groups = [Group(mark, mark, [mark]) for mark in marks]
        demand = differ("edges that join two colours")
    else:
        groups = [Group("on the path", "blue", marks[1:]), Group("not on it", "grey", marks[:1])]
        demand = follow("steps of the path along edges", int(answer.max()) - 1)
    size, places = circle(len(cells))
    parts = {"groups": groups, "links": edges.tolist(), "demands": [demand]}
    names = NAMES[: len(cells)]
    return Drawing("Graph", size, cells, places, "round", names=names, **parts).record()
