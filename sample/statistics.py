"""The cost of generations: tokens, steps, seconds and memory, and two modes compared."""

import resource
from typing import Any

import jax
import numpy as np

from data.measures import effective_steps, tokens_per_forward
from sample.timing import Clock


class Statistics:
    """Sums over all answers of one mode.

    In the mode "ar" every token is one step, and every answer is one canvas.

    Attributes:
      sequences: number of answers.
    """

    def __init__(self):
        self.sequences = 0
        self._steps: list[int] = []  # for every canvas that was begun
        self._valid: list[int] = []
        self._rounds = 0
        self._clock = Clock()

    def add(self, steps: np.ndarray, valid_tokens: np.ndarray, rounds: int, clock: Clock) -> None:
        """Adds a batch.

        Args:
          steps: [B, K] int, steps of each canvas, those of all its starts together; 0 for a canvas
            that was not begun.
          valid_tokens: [B, K] int, valid tokens of each canvas.
          rounds: steps of the loops, each of which the whole batch took together.
          clock: has the laps of `generate` or `generate_autoregressive`.
        """
        begun = steps > 0
        self.sequences += len(steps)
        self._steps += steps[begun].tolist()
        self._valid += valid_tokens[begun].tolist()
        self._rounds += rounds
        self._clock.seconds += clock.seconds
        self._clock.compile_seconds += clock.compile_seconds

    def figures(self) -> dict[str, Any]:
        """All figures; there must be at least one answer.

        Returns:
          "prompts": number of answers.
          "tokens": valid tokens.
          "steps": steps of all canvases and starts.
          "forward_passes": steps and commits.
          "effective_steps", "tokens_per_forward": see docs/MODEL.md, Measures.
          "seconds": time after prefill.
          "tokens_per_second": tokens over seconds.
          "seconds_per_step": time of a batch's step, without commits.
          "prefill_seconds", "compile_seconds": times that are in none of the others.
        """
        canvases, seconds = len(self._steps), self._clock.seconds
        tokens, steps = sum(self._valid), sum(self._steps)
        after = seconds["denoise"] + seconds["commit"] + seconds["decode"]
        return {
            "prompts": self.sequences,
            "tokens": tokens,
            "steps": steps,
            "forward_passes": steps + canvases - self.sequences,
            "effective_steps": effective_steps(self._steps, self._valid),
            "tokens_per_forward": tokens_per_forward(
                self._steps, self._valid, canvases, self.sequences
            ),
            "seconds": after,
            "tokens_per_second": tokens / after,
            "seconds_per_step": (seconds["denoise"] + seconds["decode"]) / self._rounds,
            "prefill_seconds": seconds["prefill"],
            "compile_seconds": self._clock.compile_seconds,
        }


def summary(figures: dict[str, Any], autoregressive: bool = False) -> str:
    """One line of figures for the end of a command, with the peak memory of the process."""
    effective = "" if autoregressive else f"{figures['effective_steps']:.1f} effective steps, "
    kind, peak = peak_memory()
    tokens, steps = figures["tokens"], figures["steps"]
    return (
        f"{tokens} token{'s' * (tokens != 1)}, {steps} step{'s' * (steps != 1)}, {effective}"
        f"TPF {figures['tokens_per_forward']:.2f}, {figures['tokens_per_second']:.1f} tokens/s, "
        f"prefill {figures['prefill_seconds']:.2f} s, compilation "
        f"{figures['compile_seconds']:.1f} s, peak {kind} memory {peak / 2**20:,.0f} MiB"
    )


def peak_memory() -> tuple[str, int]:
    """("device", its peak bytes) if the device counts them, else ("host", those of the process)."""
    counted = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in counted:
        return "device", counted["peak_bytes_in_use"]
    return "host", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def comparison(diffusion: dict[str, Any], autoregressive: dict[str, Any]) -> str:
    """Compares two modes on the same prompts: a Markdown table, and the ratio r of their steps."""
    rows = {
        "prompts": ("prompts", "d", 1),
        "tokens": ("tokens", "d", 1),
        "forward passes": ("forward_passes", "d", 1),
        "effective denoising steps": ("effective_steps", ".1f", 1),
        "tokens per forward": ("tokens_per_forward", ".2f", 1),
        "seconds": ("seconds", ".2f", 1),
        "tokens/s": ("tokens_per_second", ".1f", 1),
        "ms a step": ("seconds_per_step", ".2f", 1000),
    }
    lines = ["| | diffusion | autoregressive |", "|---|---|---|"]
    for title, (name, form, scale) in rows.items():
        cells = [format(figures[name] * scale, form) for figures in (diffusion, autoregressive)]
        if name == "effective_steps":
            cells[1] = ""
        lines.append(f"| {title} | {cells[0]} | {cells[1]} |")
    r = diffusion["seconds_per_step"] / autoregressive["seconds_per_step"]
    lines += ["", f"r = {r:.2f}, the cost of a denoising step over that of an autoregressive one."]
    return "\n".join(lines)
