"""Reads metrics.jsonl, the figures that a run has written line by line."""

from pathlib import Path
from typing import Any

from files.json_text import read_json, why_not_json
from files.text_file import read_text

METRICS = "metrics.jsonl"


def read_lines(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """The whole lines of a metrics.jsonl: each text with its line end, and its figures.

    A killed run may leave half a line at the end. It is left out. A last line that only lacks its
    line end gets it.

    Raises:
      ValueError: a line is not the figures of a step. The error names the file and the line.
      OSError: the file cannot be read.
    """
    *lines, last = read_text(file).split("\n")
    found = []
    for number, text in enumerate([*lines, last], 1):
        try:
            figures = read_json(text, finite=False)  # a norm of gradients may be infinite
            fault = "" if _is_line(figures) else 'expected figures such as {"step": 1, "loss": 2.0}'
        except ValueError as error:
            if number > len(lines) or not text.strip():
                continue
            fault = f"not JSON: {why_not_json(error)}"
        if fault:
            raise ValueError(f"{file}, line {number}: {fault}: delete the line to go on")
        found.append((f"{text}\n", figures))
    return found


def _is_line(figures: Any) -> bool:
    """Whether a value is {"step": a whole number, and numbers}."""
    if not isinstance(figures, dict) or type(figures.get("step")) is not int:
        return False
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in figures.values())
