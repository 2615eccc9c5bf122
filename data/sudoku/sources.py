"""Sudoku puzzles by index: generated ones, and those of a CSV file, each in two splits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.sudoku.csv_file import read_csv
from data.sudoku.engine import SudokuError, generate, unit_table
from data.sudoku.symmetry import is_heldout, split_key, split_keys

SPLITS = ("train", "test")
FEWEST_GENERATED = {2: 4, 3: 20}  # clues, by box size
REDRAWS = 1000  # an eighth of all puzzles are test puzzles, so this many misses mean there are none

# An item of a source: {"puzzle", "solution"}, int8 [n*n] each.
Puzzle = dict[str, np.ndarray]


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise SudokuError(f"split {split!r} does not exist: use one of {', '.join(SPLITS)}")


@dataclass(frozen=True)
class SudokuSource:
    """Generated puzzles by index, for grain; item i depends only on (seed, split, i).

    The number of clues is drawn from clues = (fewest, most), both included. No symmetry turns a
    puzzle of the split "train" into one of "test".

    Raises:
      SudokuError: at construction, for settings that cannot be used; on access, if no puzzle of the
        split turned up (up to symmetry there are 13 4x4 puzzles with 4 clues, and only 2 with 16).
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
        fewest = FEWEST_GENERATED[self.box]
        if not fewest <= low <= high <= cells:
            hint = "; generating under 23 is impractical, but a file may hold 17 and more"
            hint = hint if self.box == 3 else ""
            raise SudokuError(f"clues {low}..{high}: choose within {fewest}..{cells}{hint}")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> Puzzle:
        """Raises IndexError outside 0..size-1."""
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

    The first part of the file trains. The rest tests, less every puzzle that shares its split key
    with one of the first part.

    Args:
      path, box, limit, check_unique: as read_csv's.
      split: "train" or "test".
      train_fraction: the share of the rows that trains.

    Attributes:
      removed: how many puzzles of the second part were left out; 0 for "train".

    Raises:
      SudokuError: as read_csv; or the split has no puzzle.
    """

    def __init__(
        self,
        path: str | Path,
        split: str,
        box: int = 3,
        train_fraction: float = 0.9,
        limit: int | None = None,
        check_unique: bool = True,
    ):
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

    def __repr__(self) -> str:
        return self._name

    def __len__(self) -> int:
        return len(self.puzzles)

    def __getitem__(self, i: int) -> Puzzle:
        """Raises IndexError outside 0..N-1."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        return {"puzzle": self.puzzles[i], "solution": self.solutions[i]}
