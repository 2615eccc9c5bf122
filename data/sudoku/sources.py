"""Sudoku puzzles with random access, in two splits. They are generated or read from a CSV file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.sudoku.csv_file import read_csv
from data.sudoku.engine import SudokuError, generate, unit_table
from data.sudoku.symmetry import is_heldout, split_key, split_keys

SPLITS = ("train", "test")
FEWEST_GENERATED = {2: 4, 3: 20}  # box size -> the smallest number of clues to generate
# One puzzle in eight belongs to the split "test". So if none of this many puzzles belongs to a
# split, the split has no puzzle with such clues.
REDRAWS = 1000

# An item of a source: {"puzzle", "solution"}, [n*n] int8 each.
Puzzle = dict[str, np.ndarray]


def _check_split(split: str) -> None:
    """Raises SudokuError unless there is a split of this name."""
    if split not in SPLITS:
        raise SudokuError(f"split {split!r} does not exist: use one of {', '.join(SPLITS)}")


@dataclass(frozen=True)
class SudokuSource:
    """Generated puzzles with random access. Item i depends on the settings and on i alone.

    No symmetry turns a puzzle of the split "train" into one of the split "test".

    Attributes:
      seed: random seed.
      size: the number of puzzles.
      box: box size, 3 for 9x9 puzzles and 2 for 4x4.
      clues: (fewest, most) clues, both included. Each number is drawn equally often.
      split: "train" or "test".

    Raises:
      SudokuError: a setting cannot be used.
    """

    seed: int
    size: int
    box: int
    clues: tuple[int, int]
    split: str = "train"

    def __post_init__(self) -> None:
        _check_split(self.split)
        cells = len(unit_table(self.box))
        low, high = self.clues
        fewest = FEWEST_GENERATED[self.box]
        if not fewest <= low <= high <= cells:
            hint = "; puzzles with under 23 take long to generate; a file may hold 17 and more"
            hint = hint if self.box == 3 else ""
            raise SudokuError(f"clues {low}..{high}: choose within {fewest}..{cells}{hint}")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> Puzzle:
        """Puzzle i.

        Raises:
          IndexError: i is outside 0..size-1.
          SudokuError: the split has no puzzle with such clues. Up to symmetry there are only 13 4x4
            puzzles with 4 clues, and 2 with 16.
        """
        if not 0 <= i < self.size:
            raise IndexError(i)
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), i])
        low, high = self.clues
        for _ in range(REDRAWS):
            puzzle, solution = generate(rng, self.box, rng.integers(low, high + 1))
            if is_heldout(split_key(puzzle, solution, self.box)) == (self.split == "test"):
                return {"puzzle": puzzle, "solution": solution}
        raise SudokuError(
            f"split {self.split} has no puzzle with {low}..{high} clues: give a wider range"
        )


class CsvSource:
    """The puzzles of a CSV file with random access.

    The split "train" is the first part of the file. The split "test" is the rest, without the
    puzzles whose split key (data/sudoku/symmetry.py) occurs in the first part.

    Args:
      path: the file.
      split: "train" or "test".
      box: box size, 3 for 9x9 puzzles and 2 for 4x4.
      train_fraction: the share of the file's rows in the first part.
      limit: the number of rows to read from the start of the file; None for all.
      check_unique: whether to check that no puzzle has a second solution.

    Attributes:
      puzzles: [N, n*n] int8.
      solutions: [N, n*n] int8.
      removed: the number of puzzles that were left out of the split "test"; 0 for "train".

    Raises:
      SudokuError: the file or a row of it cannot be used, or the split has no puzzle.
    """

    def __init__(
        self,
        path: str | Path,
        split: str,
        box: int = 3,
        train_fraction: float = 0.9,
        limit: int | None = None,
        check_unique: bool = True,
    ) -> None:
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
            raise SudokuError(f"{path}: split {split} has no puzzle: use a larger file")

    def __repr__(self) -> str:
        return self._name

    def __len__(self) -> int:
        return len(self.puzzles)

    def __getitem__(self, i: int) -> Puzzle:
        """Puzzle i; raises IndexError outside 0..N-1."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        return {"puzzle": self.puzzles[i], "solution": self.solutions[i]}
