"""Finds the puzzles in a text, whatever program wrote it: a table, single lines, or drawn grids.

A table has a puzzle in each row, and perhaps its solution. Its columns are found by the names in
its header, or else by what is in them. Without a header, a row may also be one puzzle alone, as in
.sdm files. A drawn grid has a line for each of its rows, as in .ss files. Blank lines and lines
that begin with # say nothing.

A cell is a digit, or one of BLANKS for an empty cell. Spaces and signs such as | may stand between
the cells.
"""

import csv
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from data.sudoku.engine import SudokuError
from data.text.printable import printable

BOXES = (3, 2)  # box sizes: of 9x9 puzzles and of 4x4 puzzles
# A dash is an empty cell only beside other cells, because a line of dashes draws a rule.
BLANKS = "0._*?xX-"
# Names of columns, without case, spaces and signs. Earlier names are preferred.
PUZZLE_NAMES = ("puzzle", "puzzles", "quizzes", "quiz", "question", "questions", "sudoku")
PUZZLE_NAMES += ("unsolved", "input", "problem")
SOLUTION_NAMES = ("solution", "solutions", "answer", "answers", "solved", "output")
ACCEPTED = (
    "give a table with a column puzzle, a puzzle in each line, or grids of one line for each row"
)
DELIMITERS = (",", "\t", ";", "|", " ")  # the space stands for any white space
LOOKAHEAD = 50  # the number of lines that may stand before the first row of a drawn grid
CELLS = "0123456789."
MOST_IN_NAME = 8  # the most CELLS in the name of a column; a line with more is a row
QUOTED = 40  # the number of characters of a line that an error quotes

_LINES_OF_BOXES = {code: None for code in range(0x2500, 0x2580)}  # Unicode's box drawing
_SEPARATORS = str.maketrans("", "", " \t\r\n|!+,;:[](){}\"'`") | _LINES_OF_BOXES


class Row(NamedTuple):
    """A puzzle as it is written.

    Attributes:
      line: number of the last line that it takes, from 1.
      puzzle: its cells, and perhaps signs between them.
      solution: the same of its solution; "" if the text has no solutions.
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
      solved: whether the text has solutions.
      rows: reads the puzzles. It stops after a row that has a problem.
      left_out: gives the number of lines of other text that were read past so far.
    """

    box: int
    title: str
    unit: str
    solved: bool
    rows: Iterator[Row]
    left_out: Callable[[], int]


class Lines:
    """The lines of a text that say something, with the number of the line that was read last."""

    def __init__(self, lines: Iterable[str]):
        self.number = 0
        self._numbered = enumerate(lines, 1)
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
            if line.strip() and not line.lstrip().startswith("#"):
                return number, line
        raise StopIteration


def find_layout(lines: Iterable[str], boxes: Iterable[int] = BOXES) -> Layout:
    """Finds out how the puzzles of a text are laid out.

    Args:
      lines: the lines of the text.
      boxes: the box sizes to look for. The first that fits is taken.

    Raises:
      SudokuError: no puzzle of these sizes is found, or it is not clear which column holds what.
    """
    lines, boxes = Lines(lines), tuple(boxes)
    first = lines.peek(1)
    if not first:
        raise SudokuError(f"no puzzles: the text is empty: {ACCEPTED}")
    for box in (*boxes, *(box for box in BOXES if box not in boxes)):
        found = _find_table(lines, box) or _find_grids(lines, box)
        if found and box in boxes:
            return found
        if found:
            n = box * box
            raise SudokuError(f"the puzzles are {n}x{n}: set box to {box}, for example --box={box}")
    length = len(clean(first[0]))
    raise SudokuError(
        f"no puzzle is found; the text begins {quote(first[0])} ({length} characters): {ACCEPTED}"
    )


def quote(line: str) -> str:
    """The beginning of a line, for an error."""
    text = " ".join(printable(line).split())
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "...")


def clean(text: str) -> str:
    """A text without the signs that may stand between cells."""
    return text.translate(_SEPARATORS)


def symbols(box: int) -> frozenset[str]:
    """The characters that a cell may be."""
    return frozenset(BLANKS + "123456789"[: box * box])


# Tables.


def _find_table(lines: Lines, box: int) -> Layout | None:
    """The layout of a table, or of a text with a puzzle in each line; None for another text."""
    first, *second = lines.peek(2)
    for delimiter in DELIMITERS:
        row = _split(first, delimiter)
        if any(_is_grid(field, box) for field in row):
            return _table(lines, box, delimiter, None, row)
    # A word such as Sudoku may also be the title of a drawn grid.
    drawn = second and (_is_rule(second[0]) or any(_is_grid_row(second[0], b) for b in BOXES))
    for delimiter in DELIMITERS:
        names = [name.strip() for name in _split(first, delimiter)]
        row = _split(second[0], delimiter) if second else []
        fits = len(row) == len(names) and any(_is_grid(field, box) for field in row)
        named = delimiter != " " and not drawn and _named(names, PUZZLE_NAMES) is not None
        if (
            fits
            and not named
            and any(sum(c in CELLS for c in name) > MOST_IN_NAME for name in names)
        ):
            return _table(lines, box, delimiter, None, row)  # a damaged row, not a header
        if fits or (named and not any(_is_grid(f, b) for f in row for b in BOXES)):
            next(lines)
            return _table(lines, box, delimiter, names, row)
    return None


def _table(
    lines: Lines, box: int, delimiter: str, names: list[str] | None, row: list[str]
) -> Layout:
    """The layout of a table.

    Args:
      lines: the lines after the header.
      box: the box size.
      delimiter: one of DELIMITERS.
      names: the names of the columns; None without a header.
      row: the fields of the first row.

    Raises:
      SudokuError: it is not clear which column holds what.
    """
    puzzle = _named(names or [], PUZZLE_NAMES)
    solution = _named(names or [], SOLUTION_NAMES)
    grids = [i for i, field in enumerate(row) if _is_grid(field, box)]
    full = [i for i in grids if not set(BLANKS) & set(row[i])]
    rest = [i for i in grids if i not in (puzzle, solution)]
    if puzzle is None:
        unsolved = [i for i in rest if i not in full or len(row) == 1]
        if len(unsolved) != 1:
            found = f"{len(unsolved)} columns hold grids with empty cells in the first row"
            raise SudokuError(f"{found}: name a column puzzle, in the first line")
        puzzle = unsolved[0]
        rest.remove(puzzle)
    if solution is None:
        solved = [i for i in rest if i in full]
        if len(solved) > 1:
            found = f"{len(solved)} columns hold full grids"
            raise SudokuError(f"{found}: name one of them solution, in the first line")
        solution = solved[0] if solved else None
    taken = [puzzle] if solution is None else [puzzle, solution]
    columns = len(row if names is None else names)
    called = [str(i + 1) if names is None else printable(names[i]) for i in taken]
    title = f"column{'s' * (len(taken) - 1)} {' and '.join(called)}"
    if len(taken) < columns:
        title += f" (of {columns})"
    if columns == 1 and names is None:
        title = "one in each line"
    return Layout(
        box=box,
        title=title,
        unit="data row",
        solved=solution is not None,
        rows=_table_rows(lines, delimiter, columns, puzzle, solution),
        left_out=lambda: 0,
    )


def _table_rows(
    lines: Lines, delimiter: str, columns: int, puzzle: int, solution: int | None
) -> Iterator[Row]:
    """The rows of a table, from the first one on."""
    # White space ends a puzzle, and any number of words may follow it.
    free = delimiter == " "
    least = max(puzzle, solution or 0) + 1
    fields = map(str.split, lines) if free else _reader(lines, delimiter)
    try:
        for row in fields:
            if len(row) < least or not (free or len(row) == columns):
                problem = f"{len(row)} fields, but the first line has {columns}"
                yield Row(lines.number, problem=f"{problem}: fix or delete the line")
                return
            yield Row(lines.number, row[puzzle], "" if solution is None else row[solution])
    except csv.Error as error:
        yield Row(lines.number, problem=f"{error}: is a quotation mark missing?")


def _split(line: str, delimiter: str) -> list[str]:
    """The fields of a line; the line as a whole, if its quotation marks are not closed."""
    if delimiter == " ":
        return line.split()
    try:
        return next(_reader([line], delimiter), [])
    except csv.Error:
        return [line]


def _reader(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _named(names: list[str], known: tuple[str, ...]) -> int | None:
    """The place of a column with a known name; None if there is none."""
    plain = ["".join(c for c in name.casefold() if c.isalnum()) for name in names]
    return next((plain.index(name) for name in known if name in plain), None)


def _is_grid(text: str, box: int) -> bool:
    """Whether a text is one grid: its cells, and perhaps signs between them."""
    cells = clean(text)
    return len(cells) == box**4 and set(cells) <= symbols(box)


# Drawn grids.


def _find_grids(lines: Lines, box: int) -> Layout | None:
    """The layout of drawn grids; None if no line looks like a row of one."""
    if not any(_is_grid_row(line, box) for line in lines.peek(LOOKAHEAD)):
        return None
    left_out = [0]
    return Layout(
        box=box,
        title=f"drawn as grids of {box**2} lines",
        unit="grid",
        solved=False,
        rows=_grid_rows(lines, box, left_out),
        left_out=lambda: left_out[0],
    )


def _grid_rows(lines: Lines, box: int, left_out: list[int]) -> Iterator[Row]:
    """The grids of a text.

    Args:
      lines: the lines.
      box: the box size.
      left_out: [1], counts the lines of other text. Such lines may stand between grids.
    """
    n, rows = box * box, []
    for line in lines:
        if _is_rule(line):
            continue
        if _is_grid_row(line, box):
            rows.append(clean(line))
        elif rows or not any(c.isalpha() and c not in BLANKS for c in line):
            problem = f"{quote(line)} is not a row of {n} cells"
            if rows:
                problem += f", and the grid has only {len(rows)} rows before it"
            yield Row(lines.number, problem=problem)
            return
        else:
            left_out[0] += 1
        if len(rows) == n:
            yield Row(lines.number, "".join(rows))
            rows = []
    if rows:
        yield Row(lines.number, problem=f"the grid has {len(rows)} rows: draw all {n}")


def _is_grid_row(line: str, box: int) -> bool:
    """Whether a line is one row of a grid."""
    cells = clean(line)
    return len(cells) == box * box and set(cells) <= symbols(box) and not _is_rule(line)


def _is_rule(line: str) -> bool:
    """Whether a line draws a rule between rows, such as ---+---+--- or *-----*."""
    drawn = set(clean(line))
    return not drawn or (drawn <= set("-=*") and drawn != {"*"})
