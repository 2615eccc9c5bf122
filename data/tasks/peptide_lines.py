"""Draws the denoising of one peptide: a line of letters for each step."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from data.plot_style import DPI, GREEN, INK, png, spread
from data.tasks.amino_acids import LETTERS, OPEN, Peptide, demands_met

KEPT_FILL, ACCEPTED_FILL, NOISE_FILL = "#dfe3e8", "#b7e4c7", (0.98, 0.81, 0.62)
MAX_LINES = 16


def peptide_lines(
    item: Peptide, letters: list[list[str]], accepted: np.ndarray, entropy: np.ndarray
) -> bytes:
    """Draws at most MAX_LINES of the S steps, spread evenly over them.

    Args:
      item: the peptide of n residues.
      letters: S lists of n texts, the most probable token of each place at each step.
      accepted: [S, n] bool, the places that keep the token that was drawn at the step.
      entropy: [S, n] float, entropy of the place's distribution in nats.

    Returns:
      the bytes of a PNG file.
    """
    steps, n = len(letters), len(item.given)
    shown = spread(steps, MAX_LINES)
    figure = Figure((max(0.24 * (n + 14), 8.4), 0.3 * len(shown) + 1.2), DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-4, n + 10), ylim=(len(shown), 0))
    for line, step in enumerate(shown):
        last = step == steps - 1
        axes.text(
            -0.5, line + 0.55, "answer" if last else f"step {step + 1}", ha="right", va="center"
        )
        for place, text in enumerate(letters[step]):
            kept, sure = item.given[place] != OPEN, accepted[step, place] or last
            doubt = min(1.0, max(0.0, float(entropy[step, place])) / np.log(len(LETTERS)))
            fill = (
                KEPT_FILL if kept else ACCEPTED_FILL if sure else (*NOISE_FILL, 0.1 + 0.7 * doubt)
            )
            axes.add_patch(Rectangle((place, line), 1, 1, facecolor=fill, edgecolor="white"))
            ink = INK if kept else GREEN if sure else "#98a2b3"
            # A token of several characters would cover its neighbours.
            letter = text if text in LETTERS else "·"
            axes.text(place + 0.5, line + 0.55, letter, ha="center", va="center", color=ink)
        met = demands_met(item, "".join(letters[step]))
        missed = [name for name, good in met.items() if not good]
        verdict = "not yet: " + ", ".join(missed) if missed else "all demands met"
        if len(missed) == len(met):
            verdict = "no peptide yet"
        axes.text(n + 0.5, line + 0.55, verdict, va="center", fontsize=8)
    figure.suptitle(f"Writing {item.given.count(OPEN)} of {n} residues in {steps} steps")
    fills = {
        "kept": KEPT_FILL,
        "accepted": ACCEPTED_FILL,
        "made noise again (darker: less certain)": (*NOISE_FILL, 0.6),
    }
    handles = [Patch(facecolor=color, label=name) for name, color in fills.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return png(figure)
