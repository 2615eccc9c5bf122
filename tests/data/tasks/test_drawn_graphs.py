"""Random graphs, the counts of right answers, and the key that decides the split."""

import itertools

import numpy as np
import pytest

from data.tasks.drawn_graphs import (
    HELDOUT_ONE_IN,
    UNKNOWN,
    count_colorings,
    count_walks,
    distances,
    draw_colored,
    draw_graph,
    graph_key,
    is_held_out,
    most_edges,
)
from data.tasks.graph_answers import same_colors, shortest_length


def renamed(rng: np.random.Generator, edges: np.ndarray, vertices: int) -> np.ndarray:
    """The same graph with other names, edges in another order and other directions."""
    edges = rng.permutation(vertices)[edges][rng.permutation(len(edges))]
    return np.where(rng.random((len(edges), 1)) < 0.5, edges, edges[:, ::-1])


def canonical(edges: np.ndarray, vertices: int) -> tuple:
    """The smallest list of edges among those that all renamings give."""
    return min(
        tuple(sorted(tuple(sorted((names[a], names[b]))) for a, b in edges))
        for names in itertools.permutations(range(vertices))
    )


def test_a_planted_colouring_is_proper():
    rng, ends, counts = np.random.default_rng(0), np.zeros((9, 2)), np.zeros(3)
    for _ in range(400):
        edges, colors = draw_colored(rng, 9, 20, 3)
        assert len({frozenset(edge) for edge in edges.tolist()}) == 20
        assert all(len(set(edge)) == 2 for edge in edges.tolist())
        assert same_colors(edges, colors) == 0
        np.add.at(ends, (edges, [[0, 1]] * 20), 1)
        counts += np.bincount(colors, minlength=3)
    # No vertex, no direction and no colour stands out.
    np.testing.assert_allclose(ends / ends.mean(), 1, atol=0.12)
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.08)


def test_edges_of_any_graph_are_equally_likely():
    rng, found = np.random.default_rng(0), np.zeros((6, 6))
    for _ in range(3000):
        edges = draw_graph(rng, 6, 4)
        assert len({frozenset(edge) for edge in edges.tolist()}) == 4
        np.add.at(found, tuple(edges.T), 1)
    assert not found.diagonal().any()
    np.testing.assert_allclose(found[~np.eye(6, dtype=bool)] / 400, 1, atol=0.2)


def test_the_most_edges_that_a_colouring_allows():
    for vertices, colors in itertools.product(range(2, 7), range(2, 5)):
        best = max(
            sum(a != b for a, b in itertools.combinations(drawn, 2))
            for drawn in itertools.product(range(colors), repeat=vertices)
        )
        assert most_edges(vertices, colors) == best
    edges, _ = draw_colored(np.random.default_rng(0), 6, most_edges(6, 2), 2)
    assert len(edges) == 9


def test_counts_of_colourings():
    rng = np.random.default_rng(0)
    for _ in range(60):
        vertices, colors = int(rng.integers(2, 7)), int(rng.integers(1, 4))
        edges = draw_graph(rng, vertices, int(rng.integers(0, vertices * (vertices - 1) // 2 + 1)))
        given = np.where(rng.random(vertices) < 0.3, rng.integers(0, colors, vertices), UNKNOWN)
        right = sum(
            not same_colors(edges, found)
            and all(color in (UNKNOWN, new) for color, new in zip(given, found, strict=True))
            for found in itertools.product(range(colors), repeat=vertices)
        )
        assert count_colorings(edges, vertices, colors, given, 10_000) == right
        assert count_colorings(edges, vertices, colors, given, 2) == min(2, right)


def test_distances_and_counts_of_walks():
    square = np.array([[0, 1], [2, 1], [3, 2], [0, 3], [4, 5]])
    assert distances(square, 6, 0).tolist() == [0, 1, 2, 1, UNKNOWN, UNKNOWN]
    assert [row[0] for row in count_walks(square, 6, 2, 3)] == [0, 0, 2, 0]
    rng = np.random.default_rng(0)
    for _ in range(50):
        edges = draw_graph(rng, 8, 9)
        found = distances(edges, 8, 3)
        expected = [shortest_length(edges, vertex, 3) for vertex in range(8)]
        assert found.tolist() == [UNKNOWN if e is None else e for e in expected]


def test_names_never_change_the_key():
    rng = np.random.default_rng(0)
    keys = set()
    for _ in range(300):
        edges = draw_graph(rng, 9, 20)
        key = graph_key(edges, 9)
        assert {graph_key(renamed(rng, edges, 9), 9) for _ in range(5)} == {key}
        keys.add(key)
    assert len(keys) > 290  # other graphs have other keys
    assert graph_key(np.array([[0, 1]]), 3) != graph_key(np.array([[0, 1]]), 4)


def test_no_graph_is_in_both_splits():
    rng, forms = np.random.default_rng(0), {True: set(), False: set()}
    for _ in range(800):
        edges = draw_graph(rng, 5, int(rng.integers(2, 9)))
        forms[is_held_out(edges, 5)].add(canonical(edges, 5))
    assert len(forms[True]) > 1 and len(forms[False]) > 15 and not forms[True] & forms[False]
    held_out = np.mean([is_held_out(draw_graph(rng, 10, 22), 10) for _ in range(3000)])
    assert held_out == pytest.approx(1 / HELDOUT_ONE_IN, abs=0.02)
