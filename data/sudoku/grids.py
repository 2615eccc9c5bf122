"""Sudoku grids as text and as arrays, and checks of answers that do not use the solver's code.

A grid is a flat int8 array [n*n], row by row, with 0 for an empty cell. n = box**2. The box size
is 3 for 9x9 grids and 2 for 4x4 grids.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from data.text import digit_grid

PROMPT = "Solve the sudoku:\n{grid}"


def render(grid: ArrayLike) -> str:
    """A grid as text: a line for each row, digits with single spaces between them, 0 for empty."""
    return digit_grid.render(grid, math.isqrt(np.size(grid)))


def prompt(puzzle: ArrayLike) -> str:
    """The user's message that asks for the solution of a puzzle."""
    return PROMPT.format(grid=render(puzzle))


def digits(grid: ArrayLike) -> str:
    """The digits of a grid without separators, as in CSV files of puzzles."""
    return "".join(str(int(digit)) for digit in np.ravel(grid))


def parse(text: str, box: int) -> np.ndarray | None:
    """Reads a model's answer as a grid. No text raises an error.

    Args:
      text: the answer.
      box: the box size.

    Returns:
      the grid, [n*n] int8; None unless the text is exactly n*n digits 1..n with white space between
      them.
    """
    n = box * box
    tokens = text.split() if isinstance(text, str) else []
    if len(tokens) != n * n or not {str(d) for d in range(1, n + 1)}.issuperset(tokens):
        return None
    return np.array([int(token) for token in tokens], np.int8)


def find_grid(text: str, box: int) -> np.ndarray | None:
    """Finds the grid in a model's answer, in whatever format the answer is. No text is an error.

    HTML tags, LaTeX commands and the underscores of _5_ are removed first, and a line ends also
    between "]," and "[" or a quotation mark. A line with n digits is a row, and it may have a label
    before them, and a full stop or a comment behind them. A label is one word, or a number that a
    sign such as . or : or | ends, or both; or all that stands before the last of the signs : = >
    and [, if a letter or a quotation mark is in it. All other text is cut into lines also at colons
    and around n*n digits in a row. Such a line counts if it holds digits 1..n and signs, but no
    letter, no 0 and none of the signs . _ and ?, with which people draw empty cells. A number alone
    in brackets is a footnote.

    Lines that count stand together if there is nothing between them, or only lines of signs, such
    as rules. Their last lines are a grid if they hold n*n digits together, so a heading or another
    grid may stand right before it. If a number labels a later row than the first, then numbers must
    label all rows, because the number before a row that lacks a cell is no cell. A part of a grid
    is no grid, nor is a grid with an empty cell. If there are several grids, the last one is the
    answer. Not found are a grid right above other digits, and rows that begin with their number and
    no sign behind it.

    Args:
      text: the answer.
      box: the box size.

    Returns:
      the last grid, [n*n] int8; None if there is none.
    """
    n = box * box
    digits = frozenset("123456789"[:n])
    found, block = None, []
    for line, numbered in [*_lines(text, n), ("end", False)]:  # the last line ends the last block
        said = "".join(c for c in line if c.isalnum() or c in "._?")
        if digits.issuperset(said):
            block += [(said, numbered)] * bool(said)
            continue
        last, labels = "", []
        while block and len(last) < n * n:
            said, numbered = block.pop()
            last, labels = said + last, [numbered, *labels]
        if len(last) == n * n and (all(labels) or not any(labels[1:])):
            found = last
        block = []
    return None if found is None else np.array([int(digit) for digit in found], np.int8)


def _lines(text: str, n: int) -> list[tuple[str, bool]]:
    """The lines of an answer: rows of n digits without their labels, and parts of the other lines.

    Returns:
      (line, numbered): `numbered` says whether a label with a number was cut off.
    """
    sign = r"[^\w.?]"
    label = r"\W*(?:[A-Za-z]+|(?:[A-Za-z]+[ #]*)?\d{1,2}[*_ ]*[.:)|\]])(?=\W)"
    row = re.compile(rf"({label})?((?:{sign}*[1-{n}]){{{n}}})(?:{sign}*\.)?{sign}*")
    marks = r"</?[A-Za-z][^<>]*>|\\(?:begin|end)\{\w*\}(?:\{[^{}]*\})?|\\[A-Za-z]+"
    text = re.sub(r"(?<!\S)_(\d)_(?!\S)", r"\1", re.sub(marks, " ", text))
    text = re.sub(r"(?m)^\s*\[\d+\]\s*$", "footnote", re.sub(r"\],(?= *[\[\"])", "],\n", text))
    lines = []
    for line in text.splitlines():
        for part in (line, re.sub(r"\s(#|//).*", "", line)):
            at = max(map(part.rfind, ":=>[")) + 1
            behind = part[at:] if re.search(r"[A-Za-z\"']", part[:at]) else ""
            match, cut = row.fullmatch(part), row.fullmatch(behind)
            if match or cut:
                head = (match[1] or "") if match else part[:at]
                lines.append(((match or cut)[2], any(map(str.isdecimal, head))))
                break
        else:
            line = re.sub(
                rf"(?<!\d)[1-{n}]{{{n * n}}}(?!\d)", r"\n\g<0>\n", line.replace(":", "\n")
            )
            lines += [(part, False) for part in line.split("\n")]
    return lines


def pretty(grid: ArrayLike) -> str:
    """A grid as text for people, with lines between the boxes and a dot for an empty cell."""
    return "\n".join(grid_lines([str(d) if d > 0 else "." for d in np.ravel(grid)]))


def grid_lines(cells: Sequence[str]) -> list[str]:
    """The lines of a grid with rules between its boxes.

    Args:
      cells: n*n texts, row by row.
    """
    box = round(len(cells) ** 0.25)
    n = box * box
    rows = [cells[at : at + n] for at in range(0, n * n, n)]
    lines = [" | ".join(" ".join(row[at : at + box]) for at in range(0, n, box)) for row in rows]
    for band in range(box - 1, 0, -1):
        lines.insert(band * box, "+".join(["-" * (2 * box + 1)] * box)[1:-1])
    return lines


def valid_solutions(grids: ArrayLike, box: int) -> np.ndarray:
    """Checks N grids.

    Args:
      grids: [N, n*n] integers.
      box: the box size.

    Returns:
      [N] bool, whether each row, column and box of the grid holds every digit once.
    """
    n = box**2
    grids = np.asarray(grids)
    # Bit 0 stands for anything that is no digit. The set of all digits lacks it.
    bits = np.left_shift(np.int16(1), np.where((grids >= 1) & (grids <= n), grids, 0))
    rows = bits.reshape(-1, n, n)
    boxes = bits.reshape(-1, box, box, box, box).swapaxes(2, 3).reshape(-1, n, n)
    units = np.concatenate([rows, rows.swapaxes(1, 2), boxes], axis=1)
    return (np.bitwise_or.reduce(units, axis=2) == 2 ** (n + 1) - 2).all(axis=1)


def is_valid_solution(grid: ArrayLike, box: int) -> bool:
    """Whether a grid [n*n] is full and breaks no rule; False for an array of another shape."""
    return np.shape(grid) == (box**4,) and bool(valid_solutions(np.asarray(grid)[None], box)[0])


def check(puzzle: ArrayLike, grid: ArrayLike, box: int) -> bool:
    """Whether a grid [n*n] is full, breaks no rule and keeps every clue of a puzzle [n*n]."""
    clues = np.asarray(puzzle) != 0
    return is_valid_solution(grid, box) and np.array_equal(np.where(clues, puzzle, grid), grid)


def compare(
    puzzles: ArrayLike, solutions: ArrayLike, predictions: ArrayLike
) -> dict[str, np.ndarray]:
    """Compares answers with the solutions of puzzles that have one solution each.

    Args:
      puzzles: [N, n*n] integers, 0 for an empty cell.
      solutions: [N, n*n] integers.
      predictions: [N, n*n] integers, the answers. An answer that is no grid has -1 in every cell.

    Returns:
      Arrays [N]:
        exact: bool, the answer is the solution.
        valid: bool, no row, column or box repeats a digit, whatever the clues are.
        clues_kept: bool, every clue stands in the answer.
        cells_right: float64, the share of right cells among the cells that are empty in the
          puzzle; the share among all cells, if the puzzle has no empty cell.
        cells_right_all: float64, the share of right cells among all cells.

    Raises:
      ValueError: the shapes differ.
    """
    puzzles, solutions, predictions = map(np.asarray, (puzzles, solutions, predictions))
    if puzzles.ndim != 2 or not puzzles.shape == solutions.shape == predictions.shape:
        raise ValueError(
            "expected three arrays of one shape [N, n*n], got "
            f"{puzzles.shape}, {solutions.shape} and {predictions.shape}"
        )
    right = predictions == solutions
    empty = puzzles == 0
    counted = empty | ~empty.any(axis=1, keepdims=True)
    parsed = (predictions >= 0).all(axis=1)
    return {
        "exact": right.all(axis=1),
        "valid": valid_solutions(predictions, math.isqrt(math.isqrt(puzzles.shape[1]))),
        "clues_kept": (empty | (predictions == puzzles)).all(axis=1) & parsed,
        "cells_right": (right & counted).sum(axis=1) / counted.sum(axis=1),
        "cells_right_all": right.mean(axis=1),
    }
