"""Finds a table of puzzles in a text: lines with fields, a puzzle in each line, or JSON records."""

import csv
import json
import re
from collections.abc import Iterable, Iterator

from data.sudoku.cells import BLANKS, BOXES, cells, clean, is_grid, is_rule, row_cells
from data.sudoku.engine import SudokuError
from data.sudoku.layout import LOOKAHEAD, Layout, Lines, Row, paired
from data.text.printable import printable

# Names of columns, without case, spaces and signs. Earlier names are preferred.
PUZZLE_NAMES = ("puzzle", "puzzles", "quizzes", "quiz", "question", "questions", "sudoku")
PUZZLE_NAMES += ("unsolved", "input", "problem")
SOLUTION_NAMES = ("solution", "solutions", "answer", "answers", "solved", "output")
DELIMITERS = (",", "\t", ";", "|", ":", " ")  # the space stands for any white space
CELLS = "0123456789."
MOST_IN_NAME = 8  # the most CELLS in the name of a column, unless half of it is something else

_RECORDS = re.compile(r'\s*(\{|\[\s*(\{|"[^"]{16}))')
_BETWEEN_RECORDS = re.compile(r"[\s,\[\]]*")


def is_json(lines: Lines) -> bool:
    """Whether a text is JSON: objects, or an array of objects or of texts."""
    return _RECORDS.match("".join(lines.peek(2))) is not None


def records_as_table(lines: Lines) -> Iterator[tuple[int, str]]:
    """The records of a JSON text as lines of a table, whose first line has the first one's names.

    Args:
      lines: the lines of the text.

    Yields:
      (the number of the line in which the record begins, its fields between commas).

    Raises:
      SudokuError: the text is not JSON.
    """
    parts, number = [], 1
    for line in lines:
        parts += ["\n" * (lines.number - number), line.rstrip("\r\n")]
        number = lines.number
    text, decoder, names = "".join(parts), json.JSONDecoder(), None
    at, counted, number = _BETWEEN_RECORDS.match(text).end(), 0, 1
    while at < len(text):
        number, counted = number + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise SudokuError(f"line {number}: not JSON: {reason}") from None
        record = value if isinstance(value, dict) else {"puzzle": value}
        if names is None:
            names = list(record)
            yield number, _joined(names)
        yield number, _joined(record.get(name) for name in names)
        at = _BETWEEN_RECORDS.match(text, at).end()
    if text.lstrip().startswith("[") and not text.rstrip().endswith("]"):
        raise SudokuError("the array of puzzles is not closed: is the file cut short?")


def _joined(fields: Iterable[object]) -> str:
    """A line of a table; null is an empty field."""
    texts = ("" if field is None else str(field).replace('"', '""') for field in fields)
    return ",".join(f'"{text}"' for text in texts)


def find_table(lines: Lines, box: int, delimiters: tuple[str, ...] = DELIMITERS) -> Layout | None:
    """The layout of a table, or of a text with a puzzle in each line; None for another text.

    Titles may stand above a table.

    Args:
      lines: the lines.
      box: the box size.
      delimiters: what may stand between fields.

    Raises:
      SudokuError: it is not clear which column holds what.
    """
    for titles, first in enumerate(lines.peek(LOOKAHEAD)):
        if found := _table_below(lines, box, titles, delimiters):
            return found
        if _is_row(first) or any(row_cells(first, b) for b in BOXES):
            break
    return None


def _table_below(lines: Lines, box: int, titles: int, delimiters: tuple[str, ...]) -> Layout | None:
    """The layout of a table below this many titles; None if it does not begin there."""

    def table(read_past: int, delimiter: str, names: list[str] | None, row: list[str]) -> Layout:
        for _ in range(read_past):
            next(lines)
        return _table(lines, box, delimiter, names, row)._replace(left_out=lambda: titles)

    first, *rest = lines.peek(titles + 3)[titles:]
    for delimiter in delimiters:
        row = _split(first, delimiter)
        if any(is_grid(field, box) for field in row):
            return table(titles, delimiter, None, row)
    header = titles + 1
    if rest and "|" in first and is_rule(clean(rest[0])):  # a Markdown table
        header, rest = header + 1, rest[1:]
    second = rest[0] if rest else ""
    # A word such as Sudoku may also be the title of a drawn grid. The rows of a grid in quotation
    # marks are those of one field.
    quoted = second.count('"') % 2
    drawn = second and (is_rule(clean(second)) or any(row_cells(second, b) for b in BOXES))
    # More different fields than there are signs are the names of columns with one cell each.
    wide = any(len(set(first.split(delimiter))) > len(CELLS) for delimiter in ",;\t")
    for delimiter in delimiters:
        names = [name.strip() for name in _split(first, delimiter)]
        row = _split(second, delimiter)
        while len(row) > len(names) and not row[-1].strip():
            row.pop()
        grids = any(is_grid(field, box) for field in row)
        named = delimiter != " " and not titles and _named(names, PUZZLE_NAMES) is not None
        named = named and (quoted or not drawn)
        fits = len(row) == len(names) and grids
        if fits and not named and any(map(_is_row, names)):
            # A damaged row is a row, not a header.
            return table(header if wide else titles, delimiter, None, row)
        if fits or (named and (grids or not any(is_grid(f, b) for f in row for b in BOXES))):
            return table(header, delimiter, names, row)
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
    grids = [i for i, field in enumerate(row) if is_grid(field, box)]
    full = [i for i in grids if not set(BLANKS) & set(cells(row[i], box**4))]
    rest = [i for i in grids if i not in (puzzle, solution)]
    advice = "in a first line with the names of all columns"
    if puzzle is None:
        unsolved = [i for i in rest if i not in full or len(row) == 1]
        if len(unsolved) != 1:
            found = f"{len(unsolved)} columns hold grids with empty cells in the first row"
            raise SudokuError(f"{found}: name a column puzzle, {advice}")
        puzzle = unsolved[0]
        rest.remove(puzzle)
    if solution is None:
        solved = [i for i in rest if i in full]
        if len(solved) > 1:
            found = f"{len(solved)} columns hold full grids"
            raise SudokuError(f"{found}: name one of them solution, {advice}")
        solution = solved[0] if solved else None
    taken = [puzzle] if solution is None else [puzzle, solution]
    columns = len(row) if names is None else len(list(filter(None, names)))
    called = dict(enumerate(map(printable, names or [])))
    called = [called.get(i, str(i + 1)) for i in taken]
    title = f"column{'s' * (len(taken) - 1)} {' and '.join(called)}"
    if len(taken) < columns:
        title += f" (of {columns})"
    if columns == 1 and names is None:
        title = "one in each line"
    rows = _table_rows(lines, delimiter, columns, puzzle, solution)
    return Layout(
        box=box,
        title=title,
        unit="data row",
        rows=paired(rows, box) if solution is None else rows,
        left_out=lambda: 0,
    )


def _table_rows(
    lines: Lines, delimiter: str, columns: int, puzzle: int, solution: int | None
) -> Iterator[Row]:
    """The rows of a table, from the first one on. Other columns may be missing, or added."""
    least = max(puzzle, solution or 0) + 1
    fields = map(str.split, lines) if delimiter == " " else _reader(lines, delimiter)
    try:
        for row in fields:
            if len(row) < least:
                found = f"{len(row)} field{'s' * (len(row) != 1)}"
                problem = f"{found}, but the first line has {columns}: fix or delete the line"
                yield Row(lines.number, problem=problem)
                return
            yield Row(lines.number, row[puzzle], "" if solution is None else row[solution].strip())
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


def _is_row(text: str) -> bool:
    """Whether a text has too many CELLS for a title or the name of a column."""
    found = sum(c in CELLS for c in text)
    return found > MOST_IN_NAME and 2 * found > len(clean(text))
