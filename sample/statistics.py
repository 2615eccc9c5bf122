"""What generations cost: tokens, steps, seconds, memory, and one mode beside the other."""

import resource
from typing import Any

import jax
import numpy as np

from data.measures import effective_steps, tokens_per_forward
from sample.timing import Clock


class Statistics:
    """The sums over all answers of one mode.

    Left to right, a token is a canvas' one step, and an answer is one canvas.
    """

    def __init__(self):
        self.sequences = 0
        self._steps: list[int] = []  # of every canvas begun
        self._valid: list[int] = []
        self._rounds = 0  # of the loops, which a whole batch goes through together
        self._clock = Clock()

    def add(self, steps: np.ndarray, valid_tokens: np.ndarray, clock: Clock) -> None:
        """Counts a batch.

        Args:
          steps: [B, K], forward passes for each canvas; 0 for one that was not begun.
          valid_tokens: [B, K].
          clock: with the laps of `generate` or `generate_autoregressive`.
        """
        begun = steps > 0
        self.sequences += len(steps)
        self._steps += steps[begun].tolist()
        self._valid += valid_tokens[begun].tolist()
        self._rounds += int(steps.max(axis=0).sum())
        self._clock.seconds += clock.seconds
        self._clock.compile_seconds += clock.compile_seconds

    def figures(self) -> dict[str, Any]:
        """All figures, of at least one answer.

        Returns:
          "prompts", "tokens" (valid ones), "steps", "forward_passes" (steps and commits),
          "effective_steps" and "tokens_per_forward" (SPEC section 2), "seconds" (after prefill),
          "tokens_per_second", "seconds_per_step" (of the batch, without commits),
          "prefill_seconds" and "compile_seconds", which are in none of the others.
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
    """The line at the end of a command; peak memory is that of the process up to now."""
    effective = "" if autoregressive else f"{figures['effective_steps']:.1f} effective steps, "
    kind, peak = peak_memory()
    return (
        f"{figures['tokens']} tokens, {figures['steps']} steps, {effective}"
        f"TPF {figures['tokens_per_forward']:.2f}, {figures['tokens_per_second']:.1f} tokens/s, "
        f"prefill {figures['prefill_seconds']:.2f} s, compilation "
        f"{figures['compile_seconds']:.1f} s, peak {kind} memory {peak / 2**20:,.0f} MiB"
    )


def peak_memory() -> tuple[str, int]:
    """("device", bytes) where the device counts them, else ("host", the process' RSS)."""
    counted = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in counted:
        return "device", counted["peak_bytes_in_use"]
    return "host", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def comparison(diffusion: dict[str, Any], autoregressive: dict[str, Any]) -> str:
    """Two modes on the same prompts: a Markdown table, and r."""
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
