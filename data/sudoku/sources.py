"""Sudoku puzzles with random access, in two splits. They are generated or read from a file."""

from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np

from data.sudoku.engine import SudokuError, generate, generate_kaggle, unit_table
from data.sudoku.puzzle_file import Puzzles
from data.sudoku.symmetry import is_heldout, split_key, split_keys

SPLITS = ("train", "test")
FEWEST_GENERATED = {2: 4, 3: 20}  # box size -> the smallest number of clues to generate
# Names of 9x9 puzzles like those of Kaggle's rohanrao/sudoku -> the technique that they need, a
# level of difficulty(); None for all of them.
KAGGLE = {"kaggle": None, "kaggle-naked": 0, "kaggle-hidden": 1, "kaggle-more": 2}
# One puzzle in eight belongs to the split "test". So if none of this many puzzles belongs to a
# split, the split has no puzzle with such clues.
REDRAWS = 1000


class Puzzle(TypedDict):
    """An item of a source.

    Attributes:
      puzzle: [n*n] int8, 0 for an empty cell.
      solution: [n*n] int8.
      kind: the kind of puzzle that a report counts it as. Sources do not set it.
    """

    puzzle: np.ndarray
    solution: np.ndarray
    kind: NotRequired[str]


@dataclass(frozen=True)
class SudokuSource:
    """Generated puzzles with random access. Item i depends on the settings and on i alone.

    No symmetry turns a puzzle of the split "train" into one of the split "test".

    Attributes:
      seed: random seed.
      size: the number of puzzles.
      box: box size, 3 for 9x9 puzzles and 2 for 4x4.
      clues: (fewest, most) clues, both included. Each number is drawn equally often. Or a name in
        KAGGLE, for 9x9 only.
      split: "train" or "test".

    Raises:
      SudokuError: a setting cannot be used.
    """

    seed: int
    size: int
    box: int
    clues: tuple[int, int] | str
    split: str = "train"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise SudokuError(
                f"split {self.split!r} does not exist: use one of {', '.join(SPLITS)}"
            )
        cells = len(unit_table(self.box))
        if isinstance(self.clues, str):
            if self.clues not in KAGGLE:
                raise SudokuError(f"clues {self.clues!r}: use one of {', '.join(KAGGLE)}")
            if self.box != 3:
                raise SudokuError(
                    f"clues {self.clues}: such puzzles are 9x9 only: set box to 3, or give a range"
                )
            return
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
        for _ in range(REDRAWS):
            puzzle, solution = self._draw(rng)
            if is_heldout(split_key(puzzle, solution, self.box)) == (self.split == "test"):
                return {"puzzle": puzzle, "solution": solution}
        low, high = self.clues  # both splits have plenty of puzzles of KAGGLE
        raise SudokuError(
            f"split {self.split} has no puzzle with {low}..{high} clues: give a wider range"
        )

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A puzzle of any split, and its solution."""
        if isinstance(self.clues, str):
            return generate_kaggle(rng, KAGGLE[self.clues])
        low, high = self.clues
        return generate(rng, self.box, rng.integers(low, high + 1))


@dataclass(frozen=True, repr=False)
class FileSource:
    """Puzzles of a file with random access.

    Attributes:
      name: the file and the split.
      puzzles: [N, n*n] int8.
      solutions: [N, n*n] int8.
    """

    name: str
    puzzles: np.ndarray
    solutions: np.ndarray

    def __repr__(self) -> str:
        return f"FileSource({self.name!r}, {len(self)})"

    def __len__(self) -> int:
        return len(self.puzzles)

    def __getitem__(self, i: int) -> Puzzle:
        """Puzzle i; raises IndexError outside 0..N-1."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        return {"puzzle": self.puzzles[i], "solution": self.solutions[i]}


class FileSplits(NamedTuple):
    """The puzzles of a file in two splits.

    Attributes:
      train: the first part of the file.
      test: the rest, without the puzzles whose split key (data/sudoku/symmetry.py) occurs in the
        first part; None if it was not asked for.
      removed: the number of puzzles that were left out of `test`.
    """

    train: FileSource
    test: FileSource | None
    removed: int


def split_puzzles(
    found: Puzzles, name: str, test: bool = True, train_fraction: float = 0.9
) -> FileSplits:
    """Divides the puzzles of a file.

    Args:
      found: the puzzles, with one solution each.
      name: what errors call the file.
      test: whether the split "test" is wanted.
      train_fraction: the share of the puzzles in the first part.

    Raises:
      SudokuError: a split has no puzzle.
    """
    puzzles, solutions = found.puzzles, found.solutions
    cut = int(len(puzzles) * train_fraction)

    def source(split: str, rows: slice | np.ndarray) -> FileSource:
        taken = FileSource(f"{name}, split {split}", puzzles[rows], solutions[rows])
        if not len(taken):
            raise SudokuError(f"{name}: split {split} has no puzzle: use a larger file")
        return taken

    train = source("train", slice(cut))
    if not test:
        return FileSplits(train, None, 0)
    keys = split_keys(puzzles, solutions, found.box)
    rest = cut + np.flatnonzero(~np.isin(keys[cut:], keys[:cut]))
    return FileSplits(train, source("test", rest), len(puzzles) - cut - len(rest))
