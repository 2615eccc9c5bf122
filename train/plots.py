"""The figures of the reports, as PNG bytes; the only place with matplotlib.

Rates come as {"rate", "low", "high"} fractions with their 95 % interval, as train/report.py has
them. Figures are drawn without pyplot: no display, no global state.
"""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

DPI = 130
BLUE, ORANGE, GREY, INK = "#2b6cb0", "#dd6b20", "#a0aec0", "#1a202c"
GREEN, RED, PALE, PALE_RED = "#1b6b3a", "#c9184a", "#98a2b3", "#e07a94"
CLUE_FILL, GREEN_FILL, RED_FILL, ORANGE_FILL = "#dfe3e8", "#b7e4c7", "#ffccd7", (0.98, 0.81, 0.62)
MAX_PANELS = 12


def budget_plot(budgets: list[dict], early: dict | None = None) -> bytes:
    """Exact solutions against the number of steps allowed.

    Args:
      budgets: {"steps", "exact": rate}, ascending; every puzzle takes all its steps.
      early: {"mean_steps", "exact": rate}, the same puzzles with early stopping.
    """
    figure, axes = _figure(6.4, 4.0)
    steps = [b["steps"] for b in budgets]
    rates = [b["exact"] for b in budgets]
    _line(axes, steps, rates, BLUE, "exactly N steps")
    if early:
        at, rate = early["mean_steps"], early["exact"]
        label = f"early stopping, {at:.1f} steps on average"
        _line(axes, [at], [rate], ORANGE, label, marker="*", markersize=13)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(s) for s in steps])
    axes.minorticks_off()
    axes.set_xlabel("denoising steps N")
    _percent(axes, "puzzles solved exactly")
    axes.set_title(f"Accuracy against the step budget ({budgets[0]['exact']['count']} puzzles)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return _png(figure)


def steps_histogram(steps: np.ndarray, exact: np.ndarray, max_steps: int) -> bytes:
    """How many steps puzzles took, solved and unsolved ones stacked.

    Args:
      steps: [N] int.
      exact: [N] bool.
      max_steps: the sampler's limit.
    """
    figure, axes = _figure(6.4, 3.8)
    bins = np.arange(0.5, max_steps + 1.5)
    solved, unsolved = steps[exact], steps[~exact]
    axes.hist(
        [solved, unsolved],
        bins=bins,
        stacked=True,
        color=[BLUE, GREY],
        edgecolor="white",
        linewidth=0.6,
        label=[f"solved ({solved.size})", f"not solved ({unsolved.size})"],
    )
    mean = steps.mean()
    axes.axvline(mean, color=ORANGE, linewidth=1.6, label=f"mean {mean:.1f}")
    axes.set_xlim(0, max_steps + 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"denoising steps taken (at most {max_steps})")
    axes.set_ylabel("puzzles")
    axes.set_title("Steps until the canvas settles")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _png(figure)


def before_after(groups: list[str], bars: dict[str, list[dict | None]]) -> bytes:
    """Exact solutions of several systems, side by side for each group of puzzles.

    Args:
      groups: names on the x axis.
      bars: system -> its rate in every group, None where it has no puzzles.
    """
    figure, axes = _figure(7.2, 4.0)
    width = 0.8 / len(bars)
    for i, (name, rates) in enumerate(bars.items()):
        shown = [(g, rate) for g, rate in enumerate(rates) if rate]
        x = np.array([g for g, _ in shown]) + (i - (len(bars) - 1) / 2) * width
        heights = [rate["rate"] for _, rate in shown]
        axes.bar(x, heights, width * 0.92, color=(GREY, BLUE, ORANGE)[i % 3], label=name)
        axes.errorbar(x, heights, _spans([r for _, r in shown]), fmt="none", ecolor=INK, capsize=3)
        for at, (_, rate) in zip(x, shown, strict=True):
            text = f"{100 * rate['rate']:.0f} %"
            axes.annotate(
                text, (at, rate["high"]), (0, 3), textcoords="offset points", ha="center", size=8.5
            )
    axes.set_xticks(range(len(groups)), groups)
    _percent(axes, "puzzles solved exactly")
    axes.set_ylim(0, 1.1)
    figure.legend(loc="outside lower center", ncols=len(bars), frameon=False)
    axes.set_title("Before and after fine-tuning")
    return _png(figure)


def training_curve(losses: list[dict], evals: list[dict]) -> bytes:
    """The loss above, held-out accuracy below, against steps and minutes.

    Args:
      losses: {"step", "loss", "seconds"}, and parts of the loss by other names ending in _loss.
      evals: {"step", "eval/exact", "eval/steps"}; may be empty.
    """
    figure = Figure(figsize=(7.2, 5.4 if evals else 3.4), dpi=DPI, layout="constrained")
    top, *rest = figure.subplots(2 if evals else 1, sharex=True, squeeze=False)[:, 0]
    step = np.array([row["step"] for row in losses])
    top.plot(step, [row["loss"] for row in losses], color=INK, linewidth=1.4, label="loss")
    parts = sorted({name for row in losses for name in row if name.endswith("_loss")})
    for name, color in zip(parts, (BLUE, ORANGE, GREEN), strict=False):
        values = [row.get(name, np.nan) for row in losses]
        top.plot(step, values, color=color, linewidth=1.0, label=name.removesuffix("_loss"))
    top.set_yscale("log")
    top.set_ylabel("loss (nats)")
    top.legend(loc="upper right", frameon=False, ncols=len(parts) + 1)
    top.grid(which="minor", color="#edf2f7", linewidth=0.6)
    if evals:
        (below,) = rest
        at = [row["step"] for row in evals]
        below.plot(at, [row["eval/exact"] for row in evals], "o-", color=BLUE, markersize=4)
        _percent(below, "held-out exact")
        if all("eval/steps" in row for row in evals):
            right = below.twinx()
            right.plot(at, [row["eval/steps"] for row in evals], "s--", color=ORANGE, markersize=3)
            right.set_ylabel("effective steps", color=ORANGE)
            right.set_ylim(bottom=0)
            right.spines[["top"]].set_visible(False)
    (rest or [top])[0].set_xlabel("training step")
    for axes in (top, *rest):
        _tidy(axes)
    if len(step) > 1 and all("seconds" in row for row in losses):
        minutes = np.array([row["seconds"] for row in losses]) / 60
        rate = minutes[-1] / step[-1]  # close to linear; matplotlib needs an invertible function
        axis = top.secondary_xaxis("top", (lambda s: s * rate, lambda m: m / rate))
        axis.set_xlabel("minutes")
    return _png(figure)


def length_plot(rows: list[dict]) -> bytes:
    """What is found in ever longer prompts, and the memory they take.

    Args:
      rows: {"length", "exact": rate, "bytes": {label: int}}, ascending.
    """
    figure = Figure((9.6, 3.8), DPI, layout="constrained")
    found, memory = figure.subplots(1, 2)
    at = [row["length"] for row in rows]
    _line(found, at, [row["exact"] for row in rows], BLUE, "")
    _percent(found, f"found exactly ({rows[0]['exact']['count']} prompts each)")
    for label, color in zip(rows[0]["bytes"], (GREY, BLUE, ORANGE), strict=True):
        memory.plot(at, [r["bytes"][label] / 1e6 for r in rows], "o-", color=color, label=label)
    memory.set(yscale="log", ylabel="MB")
    memory.legend(frameon=False)
    for axes in (found, memory):
        _tidy(axes)
        axes.set(xscale="log", xlabel="prompt tokens")
        axes.set_xticks(at, [f"{n:,}" for n in at])
        axes.minorticks_off()
    return _png(figure)


def replay_strip(
    puzzle: np.ndarray,
    solution: np.ndarray,
    digits: np.ndarray,
    accepted: np.ndarray,
    entropy: np.ndarray,
    limit: int,
) -> bytes:
    """One puzzle's denoising as a strip of grids: every step, or MAX_PANELS spread over them.

    Args:
      puzzle, solution: [n*n] int, 0 for an empty cell of the puzzle.
      digits: [S, n*n] int, the most probable digits of every step, 0 where that is no digit.
      accepted: [S, n*n] bool, accepted cells, which keep their draw.
      entropy: [S, n*n] float, nats.
      max_steps: the sampler's limit.
    """
    num_steps, empty = len(digits), puzzle == 0
    shown = np.unique(np.linspace(0, num_steps - 1, min(num_steps, MAX_PANELS)).round().astype(int))
    rows = -(-len(shown) // 4)
    columns = -(-len(shown) // rows)
    side = 2.0 + 0.08 * len(puzzle) ** 0.5
    size = (max(columns * side, 8.4), rows * (side + 0.45) + 0.9)
    figure = Figure(size, DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.07)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for i, axes in enumerate(panels):
        axes.set_axis_off()
        if i >= len(shown):
            continue
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
    return _png(figure)


def _grid(axes, puzzle, solution, digits, kept, entropy) -> None:
    """A panel of replay_strip; arguments are [n*n] of one step."""
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


def _figure(width: float, height: float):
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def _tidy(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)


def _spans(rates: list[dict]) -> np.ndarray:
    """[2, N], what matplotlib wants of error bars."""
    low = [max(0.0, r["rate"] - r["low"]) for r in rates]
    high = [max(0.0, r["high"] - r["rate"]) for r in rates]
    return np.array([low, high])


def _line(axes, x, rates: list[dict], color: str, label: str, **style) -> None:
    y = [r["rate"] for r in rates]
    style = {"marker": "o", "markersize": 5, "linewidth": 1.6} | style
    axes.errorbar(x, y, _spans(rates), color=color, label=label, capsize=3, elinewidth=1.1, **style)


def _percent(axes, label: str) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel(label)


def _png(figure: Figure) -> bytes:
    buffer, small = io.BytesIO(), io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    # A palette makes the file three times smaller.
    image = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()
