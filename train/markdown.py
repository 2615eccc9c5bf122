"""Writes Markdown with lines of prose that end at WIDTH characters."""

import shlex
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 120
UNBROKEN = ("|", "![", "#", "    ")  # beginnings of lines that must stay whole


def document(parts: Iterable[str]) -> bytes:
    """The parts that are not empty, as the bytes of a file, with an empty line between them."""
    return ("\n\n".join(wrapped(part) for part in parts if part) + "\n").encode()


def wrapped(text: str) -> str:
    """A text with its long lines broken. Tables, images, headings and code stay as they are."""
    return "\n".join(
        line if line.startswith(UNBROKEN) or len(line) <= WIDTH else _broken(line)
        for line in text.split("\n")
    )


def _broken(line: str) -> str:
    """A line broken at spaces, but not before a percent sign."""
    broken = textwrap.fill(
        line.replace(" %", "\xa0%"),
        WIDTH,
        subsequent_indent="  " if line.startswith("- ") else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return broken.replace("\xa0%", " %")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def shell(command: str) -> str:
    """A command line as a block of code. A shell can read it although its lines are broken."""
    lines = [" " * 4]
    for word in map(shlex.quote, shlex.split(command)):
        if lines[-1].strip() and len(lines[-1]) + len(word) > WIDTH - len(" \\"):
            lines.append(" " * 8)
        lines[-1] += word + " "
    return " \\\n".join(line.rstrip() for line in lines)


def percent(share: dict[str, float] | None) -> str:
    """A fraction and its interval in percent. None stands for what was not measured."""
    if share is None:
        return "not measured"
    rate, low, high = (100 * share[k] for k in ("rate", "low", "high"))
    return f"{rate:.1f} % [{low:.1f}, {high:.1f}]"
