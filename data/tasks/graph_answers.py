"""Reads answers about graphs and checks them. Nothing here knows how a graph was drawn.

An edge is a pair of vertices 0..n-1, whose names are the letters of NAMES.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLORS = ("red", "green", "blue", "black", "white", "brown")
PLACES = tuple("0123456789")


def read_diagonal(
    answer: str, near: Sequence[Sequence[bool]], marks: Sequence[str]
) -> list[int] | None:
    """Reads an adjacency matrix with marks on its diagonal, a line for each vertex in any order.

    The line "B 1 red 0" is vertex B of three, a neighbour of A and not of C, with the mark "red".

    Args:
      answer: the text.
      near: [n, n], whether two vertices are neighbours.
      marks: texts that may stand on the diagonal.

    Returns:
      the n numbers of the marks; None if a line is no such line or has another row of the matrix,
      or if a vertex is missing, is named twice or does not exist.
    """
    found: dict[int, int] = {}
    for line in answer.strip().split("\n"):
        name, *row = line.split() or [""]
        vertex = NAMES.find(name) if len(name) == 1 else -1
        if not 0 <= vertex < len(near) or vertex in found or len(row) != len(near):
            return None
        mark, row[vertex] = row[vertex], str(int(near[vertex][vertex]))
        if mark not in marks or row != [str(int(bit)) for bit in near[vertex]]:
            return None
        found[vertex] = marks.index(mark)
    return [found[vertex] for vertex in range(len(near))] if len(found) == len(near) else None


def path_order(places: Sequence[int]) -> list[int] | None:
    """The vertices of a path in order; None unless they have the places 1, 2, ... once each.

    Args:
      places: for each vertex its place, or 0 if the path leaves it out.
    """
    path = sorted((v for v, place in enumerate(places) if place), key=places.__getitem__)
    numbered = [places[v] for v in path] == list(range(1, len(path) + 1))
    return path if numbered and len(path) > 1 else None


def same_colors(edges: Iterable[Sequence[int]], colors: Sequence[int]) -> int:
    """The number of edges with two ends of one colour."""
    return sum(colors[a] == colors[b] for a, b in edges)


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
