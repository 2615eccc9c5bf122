"""The plots of the reports, as PNG bytes.

A rate is a dict {"rate", "low", "high"}: a fraction and the ends of its 95 % interval, as
train/outcome.py makes them.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from data.plot_style import BLUE, DPI, GREEN, GREY, INK, ORANGE, png

Rate = dict[str, float]


def budget_plot(
    budgets: Sequence[dict[str, Any]], early: dict[str, dict[str, Any]], measure: str
) -> bytes:
    """Plots right answers against the number of denoising steps, a line for each group of items.

    Args:
      budgets: {"steps", "bins": {group: {"exact": rate}}} for each number of steps, ascending.
        Every item takes all of the steps.
      early: group -> {"count", "mean_steps", "exact": rate}: the same items with early stopping.
      measure: label of the vertical axis, such as "puzzles solved exactly".
    """
    figure, axes = _figure(6.8, 4.2)
    steps = [b["steps"] for b in budgets]
    colors = dict(zip(early, (BLUE, ORANGE, GREEN, INK, GREY), strict=False))
    for group, color in colors.items():
        rates = [b["bins"][group]["exact"] for b in budgets]
        _line(axes, steps, rates, color, f"{group} ({early[group]['count']})")
    star = {"marker": "*", "markersize": 14, "markeredgecolor": "white", "linestyle": "none"}
    for group, color in colors.items():
        at, rate = early[group]["mean_steps"], early[group]["exact"]
        _line(axes, [at], [rate], color, f"early stopping, {at:.1f} steps", **star)
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(s) for s in steps])
    axes.minorticks_off()
    axes.set_xlabel("denoising steps N")
    _percent(axes, measure)
    axes.set_title("Accuracy against the step budget")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return png(figure)


def steps_histogram(steps: np.ndarray, exact: np.ndarray, max_steps: int, noun: str) -> bytes:
    """Plots how many items took how many denoising steps, with right and wrong answers stacked.

    Args:
      steps: [N] int, steps of each item.
      exact: [N] bool, which answers are right.
      max_steps: the largest number of steps that an item may take.
      noun: what an item is called, such as "puzzle".
    """
    figure, axes = _figure(6.4, 3.8)
    bins = np.arange(0.5, max_steps + 1.5)
    right, wrong = steps[exact], steps[~exact]
    axes.hist(
        [right, wrong],
        bins=bins,
        stacked=True,
        color=[BLUE, GREY],
        edgecolor="white",
        linewidth=0.6,
        label=[f"right ({right.size})", f"wrong ({wrong.size})"],
    )
    mean = steps.mean()
    axes.axvline(mean, color=ORANGE, linewidth=1.6, label=f"mean {mean:.1f}")
    axes.set_xlim(0, max_steps + 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"denoising steps taken (at most {max_steps})")
    axes.set_ylabel(f"{noun}s")
    axes.set_title("Steps until the canvas settles")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return png(figure)


def before_after(models: dict[str, dict[str, dict[str, Any]]], measure: str) -> bytes:
    """Plots the right answers of several models, a panel for each division of the items.

    Args:
      models: name of a model -> title of a division -> group -> {"exact": rate}. The last model has
        all groups.
      measure: label of the vertical axis, such as "puzzles solved exactly".
    """
    *_, divisions = models.values()
    sizes = [len(groups) for groups in divisions.values()]
    width = 0.8 / len(models)
    figure = Figure(figsize=(max(6.4, 1.15 * sum(sizes)), 4.0), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False, width_ratios=sizes)[0]
    for axes, (title, groups) in zip(panels, divisions.items(), strict=True):
        for i, (name, found) in enumerate(models.items()):
            rates = [found.get(title, {}).get(group, {}).get("exact") for group in groups]
            shown = [(g, rate) for g, rate in enumerate(rates) if rate]
            x = np.array([g for g, _ in shown]) + (i - (len(models) - 1) / 2) * width
            heights = [rate["rate"] for _, rate in shown]
            axes.bar(x, heights, width * 0.92, color=(GREY, BLUE, ORANGE)[i % 3], label=name)
            axes.errorbar(
                x, heights, _spans([r for _, r in shown]), fmt="none", ecolor=INK, capsize=3
            )
            for at, (_, rate) in zip(x, shown, strict=True):
                axes.annotate(
                    f"{100 * rate['rate']:.0f} %",
                    (at, rate["high"]),
                    (0, 3),
                    textcoords="offset points",
                    ha="center",
                    size=8,
                )
        axes.set_xticks(range(len(groups)), [textwrap.fill(group, 11) for group in groups], size=8)
        axes.set_title(f"by {title}", size=10)
        _percent(axes, measure if axes is panels[0] else "")
        axes.set_ylim(0, 1.1)
        _tidy(axes)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(models), frameon=False)
    return png(figure)


def training_curve(losses: Sequence[dict[str, float]], evals: Sequence[dict[str, float]]) -> bytes:
    """Plots a run's losses, and below them its held-out accuracy, against steps and minutes.

    Args:
      losses: lines of the log: {"step", "loss", "seconds"}, and parts of the loss under names that
        end in _loss. At least one line.
      evals: lines of evaluations: {"step", "eval/exact", "eval/steps"}; may be empty.
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
    figure.legend(loc="outside lower center", frameon=False, ncols=len(parts) + 1)
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
    return png(figure)


def bar_plot(bars: dict[str, float], bounds: frozenset[str], unit: str, title: str) -> bytes:
    """Plots horizontal bars with their lengths written beside them.

    Args:
      bars: name of a bar -> its length.
      bounds: names of the bars that are orange; the others are blue.
      unit: unit of the lengths, for the axis.
      title: the plot's title.
    """
    figure, axes = _figure(6.4, 3.4)
    colors = [ORANGE if name in bounds else BLUE for name in bars]
    axes.bar_label(axes.barh(list(bars), list(bars.values()), color=colors), fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.margins(x=0.12)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10)
    return png(figure)


def length_plot(rows: Sequence[dict[str, Any]]) -> bytes:
    """Plots right answers and memory against the length of the prompt, side by side.

    Args:
      rows: {"length": tokens of a prompt, "exact": rate with "count", "bytes": {label: int}} for
        each length, ascending. At most three labels.
    """
    figure = Figure((9.6, 3.8), DPI, layout="constrained")
    found, memory = figure.subplots(1, 2)
    at = [row["length"] for row in rows]
    _line(found, at, [row["exact"] for row in rows], BLUE, "")
    _percent(found, f"found exactly ({rows[0]['exact']['count']} prompts each)")
    for label, color in zip(rows[0]["bytes"], (GREY, BLUE, ORANGE), strict=True):
        memory.plot(at, [r["bytes"][label] / 1e6 for r in rows], "o-", color=color, label=label)
    memory.set(yscale="log", ylabel="MB")
    figure.legend(loc="outside lower center", ncols=len(rows[0]["bytes"]), frameon=False)
    for axes in (found, memory):
        _tidy(axes)
        axes.set(xscale="log", xlabel="prompt tokens")
        axes.set_xticks(at, [f"{n:,}" for n in at])
        axes.minorticks_off()
    return png(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one pair of axes."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    """Removes the frame's upper and right lines, and draws thin horizontal lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)


def _spans(rates: Sequence[Rate]) -> np.ndarray:
    """Lengths of error bars below and above the rates, [2, N] float64."""
    low = [max(0.0, r["rate"] - r["low"]) for r in rates]
    high = [max(0.0, r["high"] - r["rate"]) for r in rates]
    return np.array([low, high])


def _line(
    axes: Axes, x: Sequence[float], rates: Sequence[Rate], color: str, label: str, **style: Any
) -> None:
    """Draws rates with their intervals at the places `x`."""
    y = [r["rate"] for r in rates]
    style = {"marker": "o", "markersize": 5, "linewidth": 1.6} | style
    axes.errorbar(x, y, _spans(rates), color=color, label=label, capsize=3, elinewidth=1.1, **style)


def _percent(axes: Axes, label: str) -> None:
    """Makes the vertical axis one of percentages with this label."""
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel(label)
