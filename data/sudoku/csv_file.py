"""CSV files of Sudoku puzzles with their solutions, in the format of Kaggle's rohanrao/sudoku."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from data.sudoku.engine import SudokuError, count_many
from data.sudoku.grids import valid_solutions

BLOCK_BYTES = 1 << 22  # about this many bytes of the file are read at a time


def read_csv(
    path: str | Path, box: int = 3, limit: int | None = None, check_unique: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Reads puzzles and their solutions.

    The header must name the columns puzzle and solution, in any order. There may be other columns.
    A grid is written as n*n digits, with 0 or . for an empty cell.

    Args:
      path: the file.
      box: box size, 3 for 9x9 puzzles and 2 for 4x4.
      limit: the number of data rows to read and check; None for all.
      check_unique: whether to check that no puzzle has a second solution.

    Returns:
      (puzzles, solutions), int8 [N, n*n] each.

    Raises:
      SudokuError: the file or a column is missing, or a row is wrong. The message names the first
        wrong row in one line.
    """
    parts = []
    rows = 0
    try:
        with open(path, "rb") as file:
            header = file.readline().decode("utf-8-sig", "replace").replace('"', "").strip()
            columns = header.split(",")
            missing = {"puzzle", "solution"}.difference(columns)
            if missing:
                found = f"the header {header[:80]!r}" if header else "an empty first line"
                raise SudokuError(
                    f"{path}: no column {' and no column '.join(sorted(missing))} in {found}: "
                    "the file must begin with a line such as puzzle,solution"
                )
            while (limit is None or rows < limit) and (block := file.read(BLOCK_BYTES)):
                block += file.readline()
                if not file.peek(1):
                    block = block.rstrip()
                room = None if limit is None else limit - rows
                part, problem = _read_block(block, columns, box, room, check_unique)
                parts.append(part)
                rows += part.shape[1]
                if problem:
                    where = f"data row {rows + 1} (file line {rows + 2})"
                    raise SudokuError(f"{path}: {where}: {problem}")
    except OSError as error:
        raise SudokuError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    if not rows:
        raise SudokuError(f"{path}: no data rows: expected a puzzle and its solution on each line")
    puzzles, solutions = np.concatenate(parts, axis=1)
    return puzzles, solutions


def _read_block(
    block: bytes, columns: list[str], box: int, room: int | None, check_unique: bool
) -> tuple[np.ndarray, str | None]:
    """Reads the rows of a block up to the first wrong one.

    Args:
      block: whole lines of the file.
      columns: names of the columns.
      box: the box size.
      room: the number of rows to read; None for all.
      check_unique: whether to check that no puzzle has a second solution.

    Returns:
      (grids, problem): puzzles and solutions of the N rows before the first wrong one, [2, N, n*n]
      int8; and what is wrong with that row, or None.
    """
    n, cells = box**2, box**4
    data = np.frombuffer(block.replace(b'"', b""), np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    if data.size and data[-1] != ord("\n"):
        ends = np.append(ends, data.size)
    starts = np.append(0, ends + 1)[: len(ends)]
    starts, ends = starts[:room], ends[:room]
    ends = ends - ((ends > starts) & (data[ends - 1] == ord("\r")))
    commas = np.flatnonzero(data == ord(","))
    first = np.searchsorted(commas, starts)
    fields = np.searchsorted(commas, ends) - first + 1

    rows, problem = len(starts), None

    def stop_at(bad: np.ndarray, describe: Callable[[int], str]) -> None:
        # A check looks only at the rows before the first wrong row that earlier checks found.
        nonlocal rows, problem
        bad = np.flatnonzero(bad[:rows])
        if bad.size:
            rows = bad[0]
            problem = describe(rows)

    stop_at(
        fields != len(columns),
        lambda r: f"{fields[r]} fields, but the header has {len(columns)}: fix or delete the line",
    )
    values = np.full(256, -1, np.int8)
    values[ord(".")] = 0
    values[ord("0") : ord("0") + n + 1] = np.arange(n + 1)
    grids = []
    for name, lowest in (("puzzle", 0), ("solution", 1)):
        # Field k lies between separators k and k + 1 of its line.
        k, at = columns.index(name), first[:rows]
        begin = commas[at + k - 1] + 1 if k else starts[:rows]
        length = (commas[at + k] if k < len(columns) - 1 else ends[:rows]) - begin
        stop_at(
            length != cells,
            lambda r, name=name, length=length: (
                f"{name} has {length[r]} characters: write all {cells} cells without separators"
            ),
        )
        text = data[begin[:rows, None] + np.arange(cells)]
        grid = values[text]

        def describe(
            r: int,
            name: str = name,
            text: np.ndarray = text,
            grid: np.ndarray = grid,
            lowest: int = lowest,
        ) -> str:
            at = np.argmax(grid[r] < lowest)
            rest = " in every cell" if lowest else ", and 0 or . for an empty cell"
            return f"{name} has {chr(text[r, at])!r} at character {at + 1}: use 1-{n}{rest}"

        stop_at((grid < lowest).any(axis=1), describe)
        grids.append(grid)
    puzzles, solutions = grids[0][:rows], grids[1][:rows]
    stop_at(
        ~valid_solutions(solutions, box),
        lambda r: "solution repeats a digit in a row, column or box: correct or delete the row",
    )
    clash = (puzzles != 0) & (puzzles != solutions)
    stop_at(
        clash.any(axis=1),
        lambda r: (
            f"the clue at character {np.argmax(clash[r]) + 1} of the puzzle differs from the "
            "solution: correct or delete the row"
        ),
    )
    if check_unique:
        stop_at(
            count_many(puzzles[:rows], box, limit=2) > 1,
            lambda r: "puzzle has more than one solution: add clues or delete the row",
        )
    return np.stack([puzzles[:rows], solutions[:rows]]), problem


def write_csv(path: str | Path, puzzles: ArrayLike, solutions: ArrayLike) -> None:
    """Writes a file that read_csv can read.

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
    with open(path, "wb") as file:
        file.write(b"puzzle,solution\n" + lines.tobytes())
