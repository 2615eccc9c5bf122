"""Draws the denoising of one colouring as a strip of graphs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.plot_style import DPI, INK, png

MAX_PANELS = 12
FILLS = {
    "red": "#e5677d",
    "green": "#6fbf8b",
    "blue": "#6f9fd8",
    "black": "#4a5568",
    "white": "#ffffff",
    "brown": "#b08968",
}
NO_COLOR, WRONG, LINE = "#edf0f3", "#c9184a", "#b8c1cc"


def graph_strip(
    edges: np.ndarray,
    names: str,
    kept: np.ndarray,
    colors: Sequence[Sequence[str]],
    accepted: np.ndarray,
    limit: int,
) -> bytes:
    """Draws the steps as graphs, at most MAX_PANELS of them, spread evenly over all S steps.

    The vertices stand on a circle. An edge with two ends of one colour is drawn thick.

    Args:
      edges: [M, 2] int, vertices 0..n-1.
      names: n letters.
      kept: [n] bool, the vertices that are coloured from the start.
      colors: S lists of n names of colours: the most probable one of each vertex at each step. A
        name that is not in FILLS is no colour.
      accepted: [S, n] bool, the vertices that keep the colour that was drawn at the step.
      limit: the largest number of steps that the sampler may take.

    Returns:
      the bytes of a PNG file.
    """
    steps = len(colors)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, MAX_PANELS)).round().astype(int))
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
        wrong = _graph(axes, edges, names, kept, colors[step], accepted[step] | kept | last)
        title = f"step {step + 1}" + (", the answer" if last else "")
        axes.set_title(f"{title}\n{wrong} wrong edges", fontsize=9, color=INK)
    figure.suptitle(
        f"Coloring {np.sum(~kept)} of {len(names)} vertices in {steps} steps (of at most {limit})",
        fontsize=12,
    )
    note = "square: given    large: accepted    small: still open    thick: two ends of one color"
    figure.supxlabel(note, fontsize=9, color=INK)
    return png(figure)


def _graph(
    axes: Axes,
    edges: np.ndarray,
    names: str,
    kept: np.ndarray,
    colors: Sequence[str],
    sure: np.ndarray,
) -> int:
    """Draws the graph of one step, and returns the number of edges with two ends of one colour."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    wrong = 0
    for a, b in edges:
        same = colors[a] == colors[b] and colors[a] in FILLS
        wrong += same
        style = {"color": WRONG, "linewidth": 2.2} if same else {"color": LINE, "linewidth": 0.8}
        axes.plot(*places[[a, b]].T, **style, zorder=1 + same)
    for vertex, name in enumerate(names):
        fill = FILLS.get(colors[vertex], NO_COLOR)
        axes.scatter(
            *places[vertex],
            s=250 if sure[vertex] else 110,
            c=fill,
            marker="s" if kept[vertex] else "o",
            edgecolors=INK,
            linewidths=1.4 if kept[vertex] else 0.6,
            zorder=3,
        )
        ink = "white" if colors[vertex] in ("black", "brown") else INK
        axes.text(*places[vertex], name, ha="center", va="center", fontsize=8, color=ink, zorder=4)
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
    return wrong
