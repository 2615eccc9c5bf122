"""Draws the denoising of a colouring or a path as a strip of graphs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.plot_style import DPI, INK, png, spread

MAX_PANELS = 12
FILLS = {
    "red": "#e5677d",
    "green": "#6fbf8b",
    "blue": "#6f9fd8",
    "black": "#4a5568",
    "white": "#ffffff",
    "brown": "#b08968",
}
NO_COLOR, WRONG, LINE, ON_PATH = "#edf0f3", "#c9184a", "#b8c1cc", "#f2c14e"


def graph_strip(
    edges: np.ndarray,
    names: str,
    kept: np.ndarray,
    marks: Sequence[Sequence[str]],
    accepted: np.ndarray,
    limit: int,
) -> bytes:
    """Draws the steps as graphs, at most MAX_PANELS of them, spread evenly over all S steps.

    The vertices stand on a circle. An edge with two ends of one colour is drawn thick, and so are
    two places that follow each other on a path: dashed if no edge joins them.

    Args:
      edges: [M, 2] int, vertices 0..n-1.
      names: n letters.
      kept: [n] bool, the vertices that are marked from the start.
      marks: S lists of n texts: the most probable mark of each vertex at each step. A name in FILLS
        is a colour, a number from 1 on is a place on a path, and all else is no mark.
      accepted: [S, n] bool, the vertices that keep the mark that was drawn at the step.
      limit: the largest number of steps that the sampler may take.

    Returns:
      the bytes of a PNG file.
    """
    steps, path = len(marks), not any(mark in FILLS for mark in marks[-1])
    shown = spread(steps, MAX_PANELS)
    rows = -(-len(shown) // 4)
    columns = -(-len(shown) // rows)
    figure = Figure((max(columns * 2.3, 7), rows * 2.6 + 0.9), DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for i, axes in enumerate(panels):
        axes.set_axis_off()
        if i >= len(shown):
            continue
        step = shown[i]
        last = step == steps - 1
        wrong = _graph(axes, edges, names, kept, marks[step], accepted[step] | kept | last)
        title = f"step {step + 1}" + (", the answer" if last else "")
        axes.set_title(f"{title}\n{wrong} wrong edges", fontsize=9, color=INK)
    what = "A path among" if path else f"Coloring {np.sum(~kept)} of"
    figure.suptitle(
        f"{what} {len(names)} vertices in {steps} steps (of at most {limit})", fontsize=12
    )
    thick = "the path, dashed where no edge is" if path else "two ends of one color"
    note = f"square: given    large: accepted    small: still open    thick: {thick}"
    figure.supxlabel(note, fontsize=9, color=INK)
    return png(figure)


def _graph(
    axes: Axes,
    edges: np.ndarray,
    names: str,
    kept: np.ndarray,
    marks: Sequence[str],
    sure: np.ndarray,
) -> int:
    """Draws the graph of one step, and returns the number of its wrong edges."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    placed = {mark: v for v, mark in enumerate(marks) if mark.isdecimal() and mark != "0"}
    steps = [(v, placed.get(str(int(mark) + 1))) for mark, v in placed.items()]
    known, wrong = {frozenset(edge) for edge in edges.tolist()}, 0
    for a, b in edges:
        same = marks[a] == marks[b] and marks[a] in FILLS
        wrong += same
        style = {"color": WRONG, "linewidth": 2.2} if same else {"color": LINE, "linewidth": 0.8}
        axes.plot(*points[[a, b]].T, **style, zorder=1 + same)
    for a, b in steps:
        if b is None:
            continue
        joined = frozenset((a, b)) in known
        wrong += not joined
        style = {"color": INK} if joined else {"color": WRONG, "linestyle": "--"}
        axes.plot(*points[[a, b]].T, **style, linewidth=2.2, zorder=2)
    for vertex, name in enumerate(names):
        mark, on_path = marks[vertex], vertex in placed.values()
        axes.scatter(
            *points[vertex],
            s=250 if sure[vertex] else 110,
            c=ON_PATH if on_path else FILLS.get(mark, NO_COLOR),
            marker="s" if kept[vertex] else "o",
            edgecolors=INK,
            linewidths=1.4 if kept[vertex] else 0.6,
            zorder=3,
        )
        ink = "white" if mark in ("black", "brown") else INK
        text = f"{name}{mark}" if on_path else name
        axes.text(*points[vertex], text, ha="center", va="center", fontsize=8, color=ink, zorder=4)
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
    return wrong
