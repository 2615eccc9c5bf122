"""Reads answers about graphs and checks them. Nothing here knows how a graph was drawn.

An edge is a pair of vertices 0..n-1, whose names are the letters of NAMES.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLORS = ("red", "green", "blue", "black", "white", "brown")


def read_coloring(
    answer: str, vertices: int, colors: int, near: Sequence[Sequence[bool]] | None = None
) -> list[int] | None:
    """Reads a colouring: a line such as "A red" for each vertex, in any order.

    Args:
      answer: the text.
      vertices: n.
      colors: k; the first k of COLORS may be used.
      near: [n, n], whether two vertices are neighbours, if each line holds a row of the adjacency
        matrix: "B 1 red 0" is vertex B of three, which is a neighbour of A and not of C.

    Returns:
      the n numbers of the colours; None if a line is no such line or has another row of the matrix,
      or if a vertex is missing, is named twice or does not exist.
    """
    found: dict[int, int] = {}
    for line in answer.strip().split("\n"):
        name, *row = line.split() or [""]
        vertex = NAMES.find(name) if len(name) == 1 else -1
        if vertex < 0 or vertex in found or vertex >= vertices:
            return None
        if near is not None:
            bits = [str(int(bit)) for bit in near[vertex]]
            if len(row) != vertices or row[:vertex] + row[vertex + 1 :] != (
                bits[:vertex] + bits[vertex + 1 :]
            ):
                return None
            row = [row[vertex]]
        if len(row) != 1 or row[0] not in COLORS[:colors]:
            return None
        found[vertex] = COLORS.index(row[0])
    return [found[vertex] for vertex in range(vertices)] if len(found) == vertices else None


def same_colors(edges: Iterable[Sequence[int]], colors: Sequence[int]) -> int:
    """The number of edges with two ends of one colour."""
    return sum(colors[a] == colors[b] for a, b in edges)


def read_path(answer: str, vertices: int) -> list[int] | None:
    """Reads a path such as "A-C-F"; None if the text is none, or if a vertex does not exist."""
    if not re.fullmatch(r"[A-Z](-[A-Z])+", answer.strip()):
        return None
    path = [NAMES.index(name) for name in answer.strip().split("-")]
    return path if max(path) < vertices else None


def missing_edges(edges: Iterable[Sequence[int]], path: Sequence[int]) -> int:
    """The number of steps of a path that do not go along an edge."""
    known = {frozenset(map(int, edge)) for edge in edges}
    return sum(frozenset(step) not in known for step in pairwise(path))


def shortest_length(edges: Iterable[Sequence[int]], start: int, end: int) -> int | None:
    """The number of edges of a shortest path between two vertices; None if there is no path."""
    near: dict[int, set[int]] = {}
    for a, b in edges:
        near.setdefault(int(a), set()).add(int(b))
        near.setdefault(int(b), set()).add(int(a))
    seen, ring, length = {start}, {start}, 0
    while ring:
        if end in ring:
            return length
        ring = {other for vertex in ring for other in near.get(vertex, ())} - seen
        seen |= ring
        length += 1
    return None
