"""Draws the denoising of one puzzle as a strip of grids."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from data.plot_style import DPI, GREEN, INK, png, spread

RED, PALE, PALE_RED = "#c9184a", "#98a2b3", "#e07a94"
CLUE_FILL, GREEN_FILL, RED_FILL, ORANGE_FILL = "#dfe3e8", "#b7e4c7", "#ffccd7", (0.98, 0.81, 0.62)
MAX_PANELS = 12


def replay_strip(
    puzzle: np.ndarray,
    solution: np.ndarray,
    digits: np.ndarray,
    accepted: np.ndarray,
    entropy: np.ndarray,
    limit: int,
    photo: Image.Image | None = None,
) -> bytes:
    """Draws the steps as grids, at most MAX_PANELS of them, spread evenly over all S steps.

    Args:
      puzzle: [n*n] int, 0 for an empty cell.
      solution: [n*n] int.
      digits: [S, n*n] int, the most probable digit of each cell at each step; 0 where the most
        probable token is no digit.
      accepted: [S, n*n] bool, the cells that keep the digit that was drawn at the step.
      entropy: [S, n*n] float, entropy of the cell's distribution in nats.
      limit: the largest number of steps that the sampler may take.
      photo: the picture that the model was shown. It takes the place of a grid.

    Returns:
      the bytes of a PNG file.
    """
    num_steps, empty = len(digits), puzzle == 0
    shown = spread(num_steps, MAX_PANELS - (photo is not None))
    count = len(shown) + (photo is not None)
    rows = -(-count // 4)
    columns = -(-count // rows)
    side = 2.0 + 0.08 * len(puzzle) ** 0.5
    size = (max(columns * side, 8.4), rows * (side + 0.45) + 0.9)
    figure = Figure(size, DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.07)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    if photo is not None:
        axes = panels.pop(0)
        axes.imshow(photo)
        axes.set_title("the picture", fontsize=10, fontweight="bold", color=INK, pad=17)
    for i, axes in enumerate(panels[: len(shown)]):
        step = shown[i]
        last = step == num_steps - 1
        _grid(axes, puzzle, solution, digits[step], accepted[step] | last, entropy[step])
        note = f"{np.sum(digits[step] != solution)} wrong"
        if not last:
            note = f"{np.sum(accepted[step] & empty)} of {empty.sum()} accepted, {note}"
        title = f"step {step + 1}" + (", the answer" if last else "")
        axes.set_title(title, fontsize=10, fontweight="bold", color=INK, pad=17)
        axes.annotate(
            note, (0.5, 1), (0, 5), "axes fraction", "offset points", ha="center", fontsize=9
        )
    title = f"Denoising {empty.sum()} empty cells in {num_steps} steps (of at most {limit})"
    figure.suptitle(title, fontsize=12.5)
    fills = {
        "given": CLUE_FILL,
        "accepted": GREEN_FILL,
        "accepted, but wrong": RED_FILL,
        "re-noised (darker: less certain)": (*ORANGE_FILL, 0.5),
    }
    handles = [Patch(facecolor=c, edgecolor="#718096", label=k) for k, c in fills.items()]
    handles.append(Line2D([], [], marker="$7$", linestyle="", color=RED, label="wrong digit"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return png(figure)


def _grid(
    axes: Axes,
    puzzle: np.ndarray,
    solution: np.ndarray,
    digits: np.ndarray,
    kept: np.ndarray,
    entropy: np.ndarray,
) -> None:
    """Draws the grid of one step. All arrays are [n*n]."""
    n = int(len(puzzle) ** 0.5)
    box = int(n**0.5)
    for cell in range(n * n):
        row, column = divmod(cell, n)
        clue, wrong = puzzle[cell] > 0, digits[cell] != solution[cell]
        if clue:
            fill, ink = CLUE_FILL, RED if wrong else INK
        elif kept[cell]:
            fill, ink = (RED_FILL, RED) if wrong else (GREEN_FILL, GREEN)
        else:
            doubt = min(1.0, max(0.0, float(entropy[cell])) / np.log(n))
            fill, ink = (*ORANGE_FILL, 0.1 + 0.7 * doubt), PALE_RED if wrong else PALE
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=fill, edgecolor="none"))
        axes.text(
            column + 0.5,
            row + 0.53,
            str(digits[cell]) if digits[cell] > 0 else "·",
            ha="center",
            va="center",
            fontsize=15 if n == 4 else 9.5,
            fontweight="bold" if clue else "normal",
            color=ink,
        )
    for line in range(n + 1):
        color, width = ("#4a5568", 1.3) if line % box == 0 else ("#cbd5e0", 0.5)
        style = {"color": color, "linewidth": width, "zorder": 3 + (line % box == 0)}
        axes.plot([0, n], [line, line], **style)
        axes.plot([line, line], [0, n], **style)
    axes.set(xlim=(-0.1, n + 0.1), ylim=(n + 0.1, -0.1), aspect="equal")
