"""Random graphs with a planted colouring or a planted distance, and a key that names do not change.

A graph with n vertices is its edges, int64 [M, 2], each once and in any direction. Vertices are
0..n-1, and colours are 0..k-1.
"""

import numpy as np

HELDOUT_ONE_IN = 8  # one key in so many belongs to the held-out graphs
UNKNOWN = -1  # a vertex without a colour, or one that cannot be reached


def draw_colored(
    rng: np.random.Generator, vertices: int, edges: int, colors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a graph that can be coloured.

    Every vertex gets a colour at random. Then the edges are drawn from all pairs of vertices with
    different colours. Colours that leave too few such pairs are drawn again.

    Args:
      rng: random numbers.
      vertices: n.
      edges: M, at most `most_edges(n, k)`.
      colors: k.

    Returns:
      (edges, colors): [M, 2] int64 in random order and directions, and [n] int64.
    """
    first, second = np.triu_indices(vertices, 1)
    while True:
        drawn = rng.integers(0, colors, vertices)
        pairs = np.flatnonzero(drawn[first] != drawn[second])
        if len(pairs) >= edges:
            break
    chosen = rng.choice(pairs, edges, replace=False)
    return _turned(rng, np.stack([first[chosen], second[chosen]], axis=1)), drawn


def most_edges(vertices: int, colors: int) -> int:
    """The most edges of a graph of `vertices` vertices that `colors` colours are enough for."""
    sizes = np.bincount(np.arange(vertices) % colors)
    return int(vertices**2 - (sizes**2).sum()) // 2


def draw_graph(rng: np.random.Generator, vertices: int, edges: int) -> np.ndarray:
    """Draws edges from all pairs of vertices: [M, 2] int64 in random order and directions."""
    pairs = np.stack(np.triu_indices(vertices, 1), axis=1)
    return _turned(rng, pairs[rng.choice(len(pairs), edges, replace=False)])


def _turned(rng: np.random.Generator, edges: np.ndarray) -> np.ndarray:
    """The edges [M, 2] with a random direction each."""
    return np.where(rng.integers(0, 2, (len(edges), 1)) == 1, edges[:, ::-1], edges)


def adjacency(edges: np.ndarray, vertices: int) -> np.ndarray:
    """Whether two vertices are neighbours, bool [n, n]."""
    found = np.zeros((vertices, vertices), bool)
    found[edges[:, 0], edges[:, 1]] = True
    return found | found.T


def distances(edges: np.ndarray, vertices: int, start: int) -> np.ndarray:
    """The number of edges on a shortest path from a vertex to each one, [n] int64; or UNKNOWN."""
    near, found = adjacency(edges, vertices), np.full(vertices, UNKNOWN)
    ring, steps = np.arange(vertices) == start, 0
    while ring.any():
        found[ring] = steps
        ring = near[ring].any(axis=0) & (found == UNKNOWN)
        steps += 1
    return found


def count_walks(edges: np.ndarray, vertices: int, end: int, length: int) -> list[np.ndarray]:
    """Counts walks to a vertex. If it is d edges away, the walks of d edges are the shortest paths.

    Returns:
      for 0, 1, ..., `length` edges, the number of walks from each vertex, [n] int64.
    """
    near, walks = adjacency(edges, vertices).astype(int), [np.arange(vertices) == end]
    for _ in range(length):
        walks.append(near @ walks[-1])
    return [row.astype(int) for row in walks]


def count_colorings(
    edges: np.ndarray, vertices: int, colors: int, given: np.ndarray, limit: int
) -> int:
    """Counts proper colourings by trying all of them.

    Args:
      edges: [M, 2].
      vertices: n.
      colors: k.
      given: [n], colours that stay; UNKNOWN at the others.
      limit: the count stops here.

    Returns:
      the number of proper colourings with the given colours, at most `limit`.
    """
    near, found = adjacency(edges, vertices), given.copy()

    def free(vertex: int) -> np.ndarray:
        return np.setdiff1d(np.arange(colors), found[near[vertex]])

    for vertex in np.flatnonzero(given != UNKNOWN):
        if given[vertex] not in free(vertex):
            return 0

    def count(limit: int) -> int:
        rest = np.flatnonzero(found == UNKNOWN)
        if not len(rest):
            return 1
        choices = [free(vertex) for vertex in rest]
        tightest = int(np.argmin([len(choice) for choice in choices]))
        vertex, total = rest[tightest], 0
        for color in choices[tightest]:
            found[vertex] = color
            total += count(limit - total)
            if total >= limit:
                break
        found[vertex] = UNKNOWN
        return total

    return count(limit)


def graph_key(edges: np.ndarray, vertices: int) -> int:
    """A hash of a graph that stays the same when its vertices are renamed.

    It is colour refinement by Weisfeiler and Lehman: each vertex has a number, and gets a new one
    that depends on its own and on those of its neighbours, until the numbers tell apart all that
    they can. The numbers in the end are hashed without their order. Graphs that are equal up to
    names always have equal keys. Different graphs may have equal keys too, if all of their vertices
    look alike, as in regular graphs.
    """
    near = adjacency(edges, vertices).astype(np.uint64)
    numbers = np.ones(vertices, np.uint64)
    for _ in range(vertices):
        numbers = _mix(_mix(numbers) + near @ numbers)
    return int(_mix(numbers.sum(keepdims=True))[0])


def _mix(x: np.ndarray) -> np.ndarray:
    """The last stage of splitmix64 for each of [N] uint64, the same in every process."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def is_held_out(edges: np.ndarray, vertices: int) -> bool:
    """Whether a graph is held out. Renaming its vertices never changes this."""
    return graph_key(edges, vertices) % HELDOUT_ONE_IN == 0
