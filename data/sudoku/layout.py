"""What the readers of tables and of drawn grids share: the lines they read, and their results."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from data.sudoku.cells import BLANKS, cells

LOOKAHEAD = 50  # lines before the first puzzle, or rows that show what the columns of a table hold
FEWEST_TABS = 3  # in a row of a 4x4 puzzle


class Row(NamedTuple):
    """A puzzle as it is written.

    Attributes:
      line: number of the last line of its puzzle, from 1.
      puzzle: its cells, and perhaps signs between them.
      solution: the same of its solution; "" if the text does not have it.
      problem: why the row cannot be read; "" if it can.
    """

    line: int
    puzzle: str = ""
    solution: str = ""
    problem: str = ""


class Layout(NamedTuple):
    """How the puzzles of a text are laid out.

    Attributes:
      box: the box size.
      title: what was understood, such as "columns question and answer".
      unit: what an error calls one puzzle, such as "data row".
      rows: reads the puzzles. It stops after a row that has a problem.
      left_out: gives the number of lines of other text that were read past so far.
    """

    box: int
    title: str
    unit: str
    rows: Iterator[Row]
    left_out: Callable[[], int]


class Lines:
    """The lines of a text that say something, with the number of the line that was read last.

    Blank lines and lines that begin with # or // say nothing. A line of tabs alone may be a row of
    empty cells.

    Args:
      numbered: pairs of a line's number, from 1, and the line.
    """

    def __init__(self, numbered: Iterable[tuple[int, str]]):
        self.number = 0
        self._numbered = iter(numbered)
        self._ahead: deque[tuple[int, str]] = deque()

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        self.number, line = self._ahead.popleft() if self._ahead else self._read()
        return line

    def peek(self, count: int) -> list[str]:
        """The next lines, at most `count`. They stay to be read."""
        while len(self._ahead) < count:
            try:
                self._ahead.append(self._read())
            except StopIteration:
                break
        return [line for _, line in itertools.islice(self._ahead, count)]

    def _read(self) -> tuple[int, str]:
        for number, line in self._numbered:
            line = line.removeprefix("\ufeff") if number == 1 else line
            says_something = line.strip() or line.count("\t") >= FEWEST_TABS
            if says_something and not line.lstrip().startswith(("#", "//")):
                return number, line
        self._numbered = iter(())  # a terminal would ask for more after its end
        raise StopIteration


def paired(rows: Iterable[Row], box: int) -> Iterator[Row]:
    """Joins each puzzle with its solution: the full grid that directly follows and completes it.

    Args:
      rows: puzzles and perhaps solutions, each of them as a puzzle.
      box: the box size.
    """
    before = None
    for row in rows:
        if before is not None and _completes(row.puzzle, before.puzzle, box):
            yield before._replace(solution=row.puzzle)
            before = None
            continue
        if before is not None:
            yield before
        before = row
    if before is not None:
        yield before


def _completes(full: str, puzzle: str, box: int) -> bool:
    """Whether a grid has no empty cell, and all clues of a puzzle that has empty cells."""
    blanks, size = set(BLANKS), box**4
    if not blanks.isdisjoint(full):  # the usual case, and quick
        return False
    digits, clues = cells(full, size), cells(puzzle, size)
    kept = all(c == d or c in blanks for c, d in zip(clues, digits, strict=False))
    complete = len(digits) == len(clues) == size and blanks.isdisjoint(digits)
    return complete and kept and not blanks.isdisjoint(clues)
