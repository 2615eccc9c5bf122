"""Sudoku as text, as files and as data sources, and a checker that shares nothing with the solver.

A grid is a flat int8 array [n*n] with n = box**2, row by row, 0 for an empty cell.
"""

import math
from dataclasses import dataclass

import numpy as np

from data.sudoku.engine import SudokuError, count_many, generate, unit_table
from data.sudoku.symmetry import is_heldout, split_key, split_keys
from data.text import digit_grid

PROMPT = "Solve the sudoku:\n{grid}"
SPLITS = ("train", "test")
FEWEST_CLUES = {2: 4, 3: 20}  # that are generated, by box size
REDRAWS = 1000  # an eighth of all puzzles are test puzzles, so this many misses mean there are none
BLOCK_BYTES = 1 << 22  # of a CSV file held as text at a time


def render(grid):
    """The digits of a grid, a line for each row, separated by single spaces; 0 is empty."""
    return digit_grid.render(grid, math.isqrt(np.size(grid)))


def prompt(puzzle):
    """The user's message for a puzzle."""
    return PROMPT.format(grid=render(puzzle))


def parse(text, box):
    """A model's answer as a grid.

    Returns:
        int8 [n*n], or None unless the text is exactly n*n digits 1..n separated by whitespace.
        It never raises.
    """
    n = box * box
    tokens = text.split() if isinstance(text, str) else []
    if len(tokens) != n * n or not {str(d) for d in range(1, n + 1)}.issuperset(tokens):
        return None
    return np.array([int(token) for token in tokens], np.int8)


def pretty(grid):
    """A grid on several lines with lines between its boxes and a dot for an empty cell."""
    box = round(np.size(grid) ** 0.25)
    symbols = np.reshape([str(d) if d > 0 else "." for d in np.ravel(grid)], (-1, box, box, box))
    lines = [" | ".join(" ".join(part) for part in row) for band in symbols for row in band]
    for band in range(box - 1, 0, -1):
        lines.insert(band * box, "+".join(["-" * (2 * box + 1)] * box)[1:-1])
    return "\n".join(lines)


def valid_solutions(grids, box):
    """Whether each row, column and box holds every digit once; bool [N] for integers [N, n*n]."""
    n = box**2
    grids = np.asarray(grids)
    # Bit 0 stands for anything that is no digit, and is not in the full set.
    bits = np.left_shift(np.int16(1), np.where((grids >= 1) & (grids <= n), grids, 0))
    rows = bits.reshape(-1, n, n)
    boxes = bits.reshape(-1, box, box, box, box).swapaxes(2, 3).reshape(-1, n, n)
    units = np.concatenate([rows, rows.swapaxes(1, 2), boxes], axis=1)
    return (np.bitwise_or.reduce(units, axis=2) == 2 ** (n + 1) - 2).all(axis=1)


def is_valid_solution(grid, box):
    """Whether a grid [n*n] is full and breaks no rule; False for any other shape."""
    return np.shape(grid) == (box**4,) and bool(valid_solutions(np.asarray(grid)[None], box)[0])


def check(puzzle, grid, box):
    """Whether a grid [n*n] is a valid solution that keeps every clue of the puzzle [n*n]."""
    clues = np.asarray(puzzle) != 0
    return is_valid_solution(grid, box) and np.array_equal(np.where(clues, puzzle, grid), grid)


def read_csv(path, box=3, limit=None, check_unique=True):
    """Reads puzzles in the format of Kaggle's rohanrao/sudoku.

    The header names the columns puzzle and solution, in any order and among any others; a grid is
    its n*n digits, with 0 or . for an empty cell.

    Args:
        limit: read and check only so many data rows.
        check_unique: also prove that no puzzle has a second solution.

    Returns:
        (puzzles, solutions), int8 [N, n*n] each.

    Raises:
        SudokuError: the file or a column is missing, or a row is wrong: the first one, in one line.
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
    return tuple(np.concatenate(parts, axis=1))


def _read_block(block, columns, box, room, check_unique):
    """The rows before the first wrong one, int8 [2, N, n*n], and what is wrong there or None."""
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

    def stop_at(bad, describe):
        # Each check looks only at the rows before the first wrong one so far.
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

        def describe(r, name=name, text=text, grid=grid, lowest=lowest):
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


def write_csv(path, puzzles, solutions):
    """Writes integers 0..9 [N, n*n] in the format that read_csv reads."""
    puzzles, solutions = np.asarray(puzzles), np.asarray(solutions)
    if puzzles.ndim != 2 or puzzles.shape != solutions.shape:
        raise SudokuError(f"cannot pair puzzles {puzzles.shape} with solutions {solutions.shape}")
    lines = np.empty((len(puzzles), 2, puzzles.shape[1] + 1), np.uint8)
    lines[:, 0, :-1] = puzzles + ord("0")
    lines[:, 1, :-1] = solutions + ord("0")
    lines[:, :, -1] = ord(","), ord("\n")
    with open(path, "wb") as file:
        file.write(b"puzzle,solution\n" + lines.tobytes())


def _check_split(split):
    if split not in SPLITS:
        raise SudokuError(f"split {split!r} does not exist: use one of {', '.join(SPLITS)}")


@dataclass(frozen=True)
class SudokuSource:
    """Generated puzzles by index, for grain; item i depends only on (seed, split, i).

    The number of clues is drawn from clues = (fewest, most), both included. No symmetry turns a
    puzzle of the split "train" into one of "test".

    Raises:
        SudokuError: at construction, for settings that cannot be used; on access, if no puzzle of
            the split turned up (up to symmetry there are 13 4x4 puzzles with 4 clues, and only 2
            with 16).
    """

    seed: int
    size: int
    box: int
    clues: tuple[int, int]
    split: str = "train"

    def __post_init__(self):
        _check_split(self.split)
        cells = len(unit_table(self.box))
        low, high = self.clues
        fewest = FEWEST_CLUES[self.box]
        if not fewest <= low <= high <= cells:
            hint = "; generating under 23 is impractical, but a file may hold 17 and more"
            hint = hint if self.box == 3 else ""
            raise SudokuError(f"clues {low}..{high}: choose within {fewest}..{cells}{hint}")

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        """{"puzzle", "solution"}, int8 [n*n] each; IndexError outside 0..size-1."""
        if not 0 <= i < self.size:
            raise IndexError(i)
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), i])
        low, high = self.clues
        for _ in range(REDRAWS):
            puzzle, solution = generate(rng, self.box, rng.integers(low, high + 1))
            if is_heldout(split_key(puzzle, solution, self.box)) == (self.split == "test"):
                return {"puzzle": puzzle, "solution": solution}
        raise SudokuError(f"no {self.split} puzzle with {low}..{high} clues: allow more counts")


class CsvSource:
    """The puzzles of a CSV file by index, for grain.

    The first part of the file trains and the rest tests, less any puzzle that shares its split key
    with one of the first part.
    The attribute removed counts these; it is 0 for "train".
    """

    def __init__(self, path, split, box=3, train_fraction=0.9, limit=None, check_unique=True):
        """Reads the file; see read_csv. SudokuError also if the split comes out empty."""
        _check_split(split)
        puzzles, solutions = read_csv(path, box, limit, check_unique)
        cut = int(len(puzzles) * train_fraction)
        self.removed = 0
        if split == "train":
            keep = slice(cut)
        else:
            keys = split_keys(puzzles, solutions, box)
            fresh = ~np.isin(keys[cut:], keys[:cut])
            self.removed = int(np.sum(~fresh))
            keep = cut + np.flatnonzero(fresh)
        self.puzzles, self.solutions = puzzles[keep], solutions[keep]
        self._name = f"CsvSource({path!r}, {split!r}, {box}, {train_fraction}, {limit})"
        if len(self) == 0:
            raise SudokuError(f"{path}: no puzzle left to {split}: use a larger file")

    def __repr__(self):
        return self._name

    def __len__(self):
        return len(self.puzzles)

    def __getitem__(self, i):
        """{"puzzle", "solution"}, int8 [n*n] each; IndexError outside 0..N-1."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        return {"puzzle": self.puzzles[i], "solution": self.solutions[i]}
