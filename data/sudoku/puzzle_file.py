"""Files of Sudoku puzzles: read in any layout of data/sudoku/puzzle_text.py, checked and solved."""

import codecs
import contextlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from data.sudoku.cells import BLANKS, BOXES, cells, named_sign
from data.sudoku.engine import SudokuError, solve_many
from data.sudoku.grids import valid_solutions
from data.sudoku.layout import Row
from data.sudoku.puzzle_text import find_layout
from files.whole_file import write_file

CHUNK = 20_000  # the number of puzzles that are read and checked at a time


class Puzzles(NamedTuple):
    """N puzzles, at least one.

    Attributes:
      puzzles: [N, n*n] int8, 0 for an empty cell.
      solutions: [N, n*n] int8: the given ones, else those that the solver found. A puzzle that has
        no solution has zeros here.
      counts: [N] int64, the number of solutions of each puzzle; 2 stands for several.
      box: the box size.
      story: one line that says what was understood of the text.
    """

    puzzles: np.ndarray
    solutions: np.ndarray
    counts: np.ndarray
    box: int
    story: str


def read_puzzles(
    path: str | Path, box: int | None = 3, limit: int | None = None, check_unique: bool = True
) -> Puzzles:
    """Reads the puzzles of a file. The solver finds the solutions that the file lacks.

    Args:
      path: the file, UTF-8 or UTF-16 text.
      box: box size, 3 for 9x9 puzzles and 2 for 4x4; None for what the file has.
      limit: the number of puzzles to read and check; None for all.
      check_unique: whether to refuse a puzzle that has no solution or several.

    Raises:
      SudokuError: the file cannot be read, no puzzle is found, or a row is wrong. The message is
        one line. It names the first wrong row.
    """
    try:
        # With a limit, lines are left over: their generator must end before the file is closed.
        with open(path, "rb") as file, contextlib.closing(lines_of(file)) as lines:
            return parse_puzzles(lines, str(path), box, limit, check_unique)
    except OSError as error:
        raise SudokuError(f"{path}: cannot be read: {error.strerror}; check the path") from error


def lines_of(file: io.BufferedReader) -> Iterator[str]:
    """The lines of a file that is open for bytes: UTF-8 or UTF-16 text. The file stays open.

    Raises:
      SudokuError: it is not a text file.
    """
    head = file.peek()
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in head and not wide:
        raise SudokuError("not a text file: unpack it, or save its table as CSV, and give that")
    encoding = "utf-16" if wide else "utf-8-sig"
    lines = io.TextIOWrapper(file, encoding, errors="replace", newline="")
    try:
        for line in lines:  # noqa: UP028 (`yield from` would close the file with the generator)
            yield line
    finally:
        lines.detach()


def parse_puzzles(
    lines: Iterable[str],
    name: str,
    box: int | None = 3,
    limit: int | None = None,
    check_unique: bool = True,
) -> Puzzles:
    """Reads the puzzles of a text, as read_puzzles does.

    Args:
      lines: the lines of the text.
      name: what errors and the story call the text.
      box, limit, check_unique: as in read_puzzles.

    Raises:
      SudokuError: as in read_puzzles.
    """
    parts, done, given = [], 0, 0
    try:
        layout = find_layout(lines, BOXES if box is None else (box,))
        rows = itertools.islice(layout.rows, limit)
        while chunk := list(itertools.islice(rows, CHUNK)):
            part, problem = _checked(chunk, layout.box, check_unique)
            parts.append(part)
            done += len(part[0])
            given += sum(row.solution != "" for row in chunk)
            if problem:
                line = chunk[len(part[0])].line
                raise SudokuError(f"{layout.unit} {done + 1} (file line {line}): {problem}")
    except SudokuError as error:
        raise SudokuError(f"{name}: {error}") from None
    if not done:
        raise SudokuError(f"{name}: no data rows: expected a puzzle on each line")
    puzzles, solutions, counts = map(np.concatenate, zip(*parts, strict=True))
    first = "the first " if done == limit else ""
    number = f"{first}{done:,} puzzles" if done > 1 else f"{first or '1 '}puzzle"
    story = f"{name}: {number}, {layout.title}, "
    if 0 < given < done:
        story += f"{given:,} of {done:,} solutions given, the others found by the solver"
    else:
        story += "solutions given" if given else "solutions found by the solver"
    full, none, several = (np.sum(x) for x in (puzzles.all(axis=1), counts == 0, counts > 1))
    story += f", {full:,} without an empty cell" if full else ""
    story += f", {none:,} without a solution" if none else ""
    story += f", {several:,} with several solutions" if several else ""
    story += ", each with one solution" if done > 1 and not none + several else ""
    if left_out := layout.left_out():
        story += f", {left_out:,} line{'s' * (left_out > 1)} of other text left out"
    return Puzzles(puzzles, solutions, counts, layout.box, story)


def _checked(
    rows: list[Row], box: int, check_unique: bool
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], str]:
    """Checks rows up to the first wrong one.

    Args:
      rows: at least one. Only the last one may have a problem already.
      box: the box size.
      check_unique: whether to refuse a puzzle that has no solution or several.

    Returns:
      (grids, problem): puzzles, solutions and counts of the rows before the first wrong one, as in
      Puzzles; and what is wrong with that row, or "".
    """
    problem = rows[-1].problem
    num = len(rows) - bool(problem)

    def stop_at(bad: np.ndarray, describe: Callable[[int], str]) -> None:
        # A check looks only at the rows before the first wrong row that earlier checks found.
        nonlocal num, problem
        found = np.flatnonzero(bad[:num])
        if found.size:
            num = int(found[0])
            problem = describe(num)

    puzzles = _cells([row.puzzle for row in rows[:num]], "puzzle", box, 0, stop_at)[:num]
    # The solver finds the solutions of rows that lack it. Until then they have any digits.
    texts = [row.solution or "1" * len(puzzles[0]) for row in rows[:num]]
    given = np.array([row.solution != "" for row in rows[:num]], bool)
    solutions = _cells(texts, "solution", box, 1, stop_at)
    stop_at(
        given & ~valid_solutions(solutions, box),
        lambda r: "solution repeats a digit in a row, column or box: correct or delete the row",
    )
    clash = given[:num, None] & (puzzles[:num] != 0) & (puzzles[:num] != solutions[:num])
    stop_at(
        clash.any(axis=1),
        lambda r: (
            f"the clue at character {np.argmax(clash[r]) + 1} of the puzzle differs from the "
            "solution: correct or delete the row"
        ),
    )
    counts, found = solve_many(puzzles[:num], box)
    solutions = np.where(given[:num, None], solutions[:num], found)
    if check_unique:
        stop_at(counts == 0, lambda r: "puzzle has no solution: correct or delete the row")
    if check_unique:
        stop_at(
            counts > 1,
            lambda r: "puzzle has more than one solution: add clues or delete the row",
        )
    return (puzzles[:num], solutions[:num], counts[:num]), problem


def _cells(
    texts: list[str],
    name: str,
    box: int,
    lowest: int,
    stop_at: Callable[[np.ndarray, Callable[[int], str]], None],
) -> np.ndarray:
    """Turns texts into grids.

    Args:
      texts: N texts with a grid each.
      name: "puzzle" or "solution", for errors.
      box: the box size.
      lowest: the smallest value that a cell may have, 0 or 1.
      stop_at: is called with [N] bool, which texts are wrong, and a function that says how.

    Returns:
      [N, n*n] int8. Texts that are wrong give any values.
    """
    n, size = box * box, box**4
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    plain = np.fromiter(map(str.isascii, texts), bool, len(texts))
    for i in np.flatnonzero((lengths != size) | ~plain):
        texts[i] = cells(texts[i], size)
        lengths[i] = len(texts[i])
        if lengths[i] != size:
            texts[i] = "1" * size
    stop_at(
        lengths != size,
        lambda r: (
            f"{name} has {lengths[r]} character{'' if lengths[r] == 1 else 's'}: write all {size} "
            "cells, and 0 or . for an empty one"
        ),
    )
    values = np.full(128, -1, np.int8)  # the last one stands for all characters that are not ASCII
    values[[ord(c) for c in BLANKS]] = 0
    values[ord("1") : ord("1") + n] = np.arange(1, n + 1)
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "replace"), np.uint32)
    grids = values[np.minimum(codes, 127)].reshape(-1, size)

    def describe(r: int) -> str:
        at = np.argmax(grids[r] < lowest)
        rest = " in every cell" if lowest else ", and 0 or . for an empty cell"
        return f"{name} has {named_sign(texts[r][at])} at character {at + 1}: use 1-{n}{rest}"

    stop_at((grids < lowest).any(axis=1), describe)
    return grids


def write_csv(path: str | Path, puzzles: ArrayLike, solutions: ArrayLike) -> None:
    """Writes a file that read_puzzles can read, in the format of Kaggle's rohanrao/sudoku.

    Args:
      path: the file.
      puzzles: [N, n*n] integers 0 to 9, 0 for an empty cell.
      solutions: [N, n*n] integers 1 to 9.

    Raises:
      SudokuError: the two arrays differ in shape.
      OSError: the file cannot be written.
    """
    puzzles, solutions = np.asarray(puzzles), np.asarray(solutions)
    if puzzles.ndim != 2 or puzzles.shape != solutions.shape:
        raise SudokuError(f"cannot pair puzzles {puzzles.shape} with solutions {solutions.shape}")
    lines = np.empty((len(puzzles), 2, puzzles.shape[1] + 1), np.uint8)
    lines[:, 0, :-1] = puzzles + ord("0")
    lines[:, 1, :-1] = solutions + ord("0")
    lines[:, :, -1] = ord(","), ord("\n")
    write_file(Path(path), b"puzzle,solution\n" + lines.tobytes())
