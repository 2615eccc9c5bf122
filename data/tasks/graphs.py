"""Graphs: colour the vertices so that no edge joins two of one colour, or find a shortest path.

The prompt lists the edges. The canvas holds the adjacency matrix, a line for each vertex, with the
answer on its diagonal: the colour of each vertex, or its place on the path. All else is kept, and
so are a few colours, or the two ends of the path. Many answers may be right, so a checker decides,
and not the answer that the graph was drawn with.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict

import numpy as np

from data.tasks.drawn_graphs import (
    UNKNOWN,
    adjacency,
    count_colorings,
    count_walks,
    distances,
    draw_colored,
    draw_graph,
    is_held_out,
    most_edges,
)
from data.tasks.graph_answers import (
    COLORS,
    NAMES,
    PLACES,
    missing_edges,
    path_order,
    read_diagonal,
    same_colors,
    shortest_length,
)
from data.tasks.graph_view import graph_view
from data.tasks.seeded import SeededSource
from data.tasks.task import UNBOUNDED, Check, Replay, Splits, Task, TaskError
from data.text.parts import Part

PROBLEMS = ("coloring", "path")
FEWEST_VERTICES = 4
# Draws of one item. The split and the demanded distance refuse most of them.
REDRAWS = 10_000
COUNTED = 10  # numbers of right answers are counted up to here


class GraphItem(TypedDict):
    """A graph with a question about it.

    Attributes:
      problem: one of PROBLEMS.
      vertices: n, the number of vertices.
      edges: [M, 2] int64, vertices 0..n-1: the edges as the prompt lists them.
      answer: a right answer, drawn at random: what stands on the diagonal, [n] int64. The number of
        the vertex's colour; or its place on the path, from 1 on, and 0 if the path leaves it out.
      kept: what is given of the answer, [n] bool.
    """

    problem: str
    vertices: int
    edges: np.ndarray
    answer: np.ndarray
    kept: np.ndarray


@dataclasses.dataclass(frozen=True)
class GraphsTask(Task):
    """Graphs to colour, and graphs to find a shortest path in.

    No held-out graph is a training graph with other names: a hash that names do not change decides
    which of the two a graph is (`drawn_graphs.graph_key`).

    Attributes:
      problem: "coloring", "path", or "coloring,path", which take turns.
      vertices: number of vertices, or a range such as 8-10; all numbers are equally likely.
      degree: mean number of neighbours of a vertex.
      colors: number of colours.
      given: number of vertices that are coloured already, or a range.
      distance: number of edges of a shortest path, or a range.

    Raises:
      TaskError: a setting cannot be used.
    """

    problem: str = "coloring"
    vertices: str = "8"
    degree: float = 4.0
    colors: int = 3
    given: str = "2"
    distance: str = "3-4"

    name: ClassVar[str] = "graphs"
    title: ClassVar[str] = "Graphs"
    noun: ClassVar[str] = "graph"
    measures: ClassVar[dict[str, str]] = {
        "exact": "right answers",
        "valid": "answers in the right form",
        "parts": "edges right",
    }
    notes: ClassVar[tuple[str, ...]] = (
        "Right answers: every one that the checker accepts, because a graph may have many. A "
        "colouring has one colour for every vertex, keeps the given colours, and no edge joins two "
        "vertices of one colour. A path goes along edges from one given end to the other, and is "
        "as short as any. An answer in the right form holds the matrix of its graph, and numbers "
        "the places of a path from 1 on.",
        "Edges right: the share of the edges with ends of different colours, or the share of the "
        "steps of a path that go along edges. An answer in another form has none right.",
    )

    def __post_init__(self) -> None:
        if not self.problems or set(self.problems) - set(PROBLEMS):
            raise TaskError(f"problem={self.problem}: name {' or '.join(PROBLEMS)}, or both")
        few, most = self._range("vertices", FEWEST_VERTICES, len(NAMES))
        self._range("given", 0, few)
        self._range("distance", 2, min(few, len(PLACES)) - 1)
        if not 2 <= self.colors <= len(COLORS):
            raise TaskError(f"colors={self.colors}: take 2 to {len(COLORS)}")
        if not np.isfinite(self.degree):
            raise TaskError(f"degree={self.degree:g}: give a number of neighbours")
        for n in (few, most):
            limit = n * (n - 1) // 2
            if "coloring" in self.problems:
                limit = most_edges(n, self.colors)
            if not 1 <= self.edges(n) <= limit:
                raise TaskError(
                    f"degree={self.degree:g}: {n} vertices then have {self.edges(n)} edges, and "
                    f"1 to {limit} are possible"
                )

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems that take turns."""
        return tuple(part.strip() for part in self.problem.split(","))

    def edges(self, vertices: int) -> int:
        """The number of edges of a graph."""
        return round(vertices * self.degree / 2)

    def _range(self, name: str, least: int, most: int) -> tuple[int, int]:
        """The range that a setting names: (low, high), both within least..most."""
        text = getattr(self, name)
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip(), re.ASCII)
        low, high = (int(end) for end in (found[1], found[2] or found[1])) if found else (-1, -1)
        if not least <= low <= high <= most:
            raise TaskError(
                f"{name}={text}: give a number or a range such as {least}-{most}, from {least} to "
                f"{most}"
            )
        return low, high

    def draw_range(self, rng: np.random.Generator, name: str) -> int:
        """Draws a number from the range that a setting names."""
        low, high = self._range(name, 0, UNBOUNDED)
        return int(rng.integers(low, high + 1))

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        return Splits(
            GraphSource(self, 2 * seed, held_out=False),
            GraphSource(self, 2 * seed + 1, held_out=True) if test else None,
        )

    def text(self, item: GraphItem) -> tuple[str, str]:
        edges = "\n".join(NAMES[a] + NAMES[b] for a, b in item["edges"])
        head = f"Color with {self.colors}" if item["problem"] == "coloring" else "Path"
        return f"{head}:\n{edges}", "".join(part.text for part in self.parts(item))

    def parts(self, item: GraphItem) -> list[Part]:
        """A part for each name, with the line end before it, and for each entry with its space."""
        parts, near = [], adjacency(item["edges"], item["vertices"])
        marks = _marks(item["problem"], self.colors)
        for i, (mark, kept) in enumerate(zip(item["answer"], item["kept"], strict=True)):
            row = [Part(f" {int(bit)}", "kept") for bit in near[i]]
            row[i] = Part(f" {marks[mark]}", "kept" if kept else "open")
            parts += [Part(NAMES[i] if not i else f"\n{NAMES[i]}", "kept"), *row]
        return parts

    def score(self, item: GraphItem, answer: str) -> dict[str, float]:
        edges, given = item["edges"], np.flatnonzero(item["kept"])
        marks = _marks(item["problem"], self.colors)
        found = read_diagonal(answer, adjacency(edges, item["vertices"]), marks)
        path = path_order(found) if found and item["problem"] == "path" else None
        if not found or (item["problem"] == "path" and not path):
            return dict.fromkeys(self.measures, 0.0)
        right = all(found[v] == item["answer"][v] for v in given)
        if path:
            faults, of = missing_edges(edges, path), len(path) - 1
            right = right and of == shortest_length(edges, path[0], path[-1])
        else:
            faults, of = same_colors(edges, found), len(edges)
        return {"exact": float(right and not faults), "valid": 1.0, "parts": 1 - faults / of}

    def bins(self, items: Sequence[GraphItem]) -> dict[str, dict[str, np.ndarray]]:
        problems = np.array([item["problem"] for item in items])
        coloring = problems == "coloring"
        open_ones = np.array([np.sum(~item["kept"]) for item in items])
        answers = np.array([self._answers(item) for item in items])
        found = {
            "right answers": {
                "one": answers == 1,
                f"2 to {COUNTED - 1}": (answers > 1) & (answers < COUNTED),
                f"{COUNTED} or more": answers >= COUNTED,
            },
            "open": {f"{k} open": open_ones == k for k in sorted(set(open_ones.tolist()))},
        }
        if coloring.any() and not coloring.all():
            found = {"problem": {"colouring": coloring, "path": ~coloring}} | found
        return found

    def _answers(self, item: GraphItem) -> int:
        """The number of right answers to an item, at most COUNTED."""
        edges, vertices, answer = item["edges"], item["vertices"], item["answer"]
        if item["problem"] == "coloring":
            given = np.where(item["kept"], answer, UNKNOWN)
            return count_colorings(edges, vertices, self.colors, given, COUNTED)
        walks = count_walks(edges, vertices, int(answer.argmax()), int(answer.max()) - 1)
        return min(walks[-1][answer == 1].item(), COUNTED)

    def columns(self, item: GraphItem) -> dict[str, str]:
        prompt, answer = self.text(item)
        shown = "".join(part.text if part.kind == "kept" else "?" for part in self.parts(item))
        columns = {"edges": prompt.partition("\n")[2], "given": shown, "expected": answer}
        return {name: text.replace("\n", " ") for name, text in columns.items()}

    def shown(self, answer: str) -> str:
        return answer.replace("\n", " ")

    def _diagonal(self, item: GraphItem, expected: Sequence[str]) -> list[int] | None:
        """Positions of the marks in an answer with the tokens `expected`; None if the tokenizer
        does not give each mark a token of its own."""
        n, marks = item["vertices"], _marks(item["problem"], self.colors)
        # A line has a name, n entries, and a line end that the last one lacks.
        places = [1 + (n + 3) * i for i in range(n)]
        if len(expected) <= places[-1] or any(expected[i].strip(" ") not in marks for i in places):
            return None
        return places

    def view(self, item: GraphItem, expected: Sequence[str]) -> dict[str, Any] | None:
        """The vertices on a circle; None if the tokenizer does not give each mark a token."""
        cells, marks = self._diagonal(item, expected), _marks(item["problem"], self.colors)
        return None if cells is None else graph_view(item["edges"], item["answer"], cells, marks)

    def picture(self, item: GraphItem, replay: Replay) -> bytes | None:
        """A strip of graphs; None if the answer takes more than one canvas, or if the tokenizer
        does not give each mark a token of its own."""
        # Training and questions need no picture, and matplotlib takes long to import.
        from data.tasks.graph_strip import graph_strip

        places = self._diagonal(item, replay.expected)
        if places is None or places[-1] >= replay.accepted.shape[1]:
            return None
        return graph_strip(
            item["edges"],
            NAMES[: item["vertices"]],
            item["kept"],
            [[step[i].strip(" ") for i in places] for step in replay.pieces],
            replay.accepted[:, places],
            replay.limit,
        )


class GraphSource(SeededSource):
    """Graphs with random access.

    Args:
      task: says which graphs.
      seed: random seed.
      held_out: whether the graphs are held out, and not trained on.
    """

    def __init__(self, task: GraphsTask, seed: int, held_out: bool) -> None:
        super().__init__(seed, UNBOUNDED)
        self.task, self.held_out = task, held_out

    def draw(self, rng: np.random.Generator) -> GraphItem:
        """Draws an item.

        Raises:
          TaskError: no graph of many has two vertices as far apart as the settings demand.
        """
        task = self.task
        problem = task.problems[rng.integers(len(task.problems))]
        for _ in range(REDRAWS):
            vertices = task.draw_range(rng, "vertices")
            if problem == "coloring":
                edges, answer = draw_colored(rng, vertices, task.edges(vertices), task.colors)
                kept = np.zeros(vertices, bool)
                kept[rng.choice(vertices, task.draw_range(rng, "given"), replace=False)] = True
            else:
                edges = draw_graph(rng, vertices, task.edges(vertices))
                answer = _draw_path(rng, edges, vertices, task.draw_range(rng, "distance"))
                kept = (answer == 1) | (answer == answer.max())
            if answer.any() and is_held_out(edges, vertices) == self.held_out:
                return GraphItem(
                    problem=problem, vertices=vertices, edges=edges, answer=answer, kept=kept
                )
        raise TaskError(
            f"distance={task.distance}: graphs with degree={task.degree:g} hardly ever have two "
            "vertices that far apart"
        )


def _marks(problem: str, colors: int) -> tuple[str, ...]:
    """What may stand on the diagonal: the text of each number of an answer."""
    return COLORS[:colors] if problem == "coloring" else PLACES


def _draw_path(
    rng: np.random.Generator, edges: np.ndarray, vertices: int, length: int
) -> np.ndarray:
    """Draws one of the shortest paths between two vertices that are so many edges apart.

    Returns:
      the place of each vertex, [n] int64, as in GraphItem; zeros if no vertices are so far apart.
    """
    end, places = int(rng.integers(vertices)), np.zeros(vertices, int)
    starts = np.flatnonzero(distances(edges, vertices, end) == length)
    if not len(starts):
        return places
    vertex, near = int(rng.choice(starts)), adjacency(edges, vertices)
    places[vertex] = 1
    for place, walks in enumerate(count_walks(edges, vertices, end, length)[-2::-1], 2):
        weights = walks * near[vertex]
        vertex = int(rng.choice(vertices, p=weights / weights.sum()))
        places[vertex] = place
    return places
