"""Finds a table of puzzles in a text: lines with fields, a puzzle in each line, or JSON records."""

import contextlib
import csv
import itertools
import re
from collections.abc import Iterable, Iterator

from data.sudoku.cells import BLANKS, BOXES, cells, clean, is_grid, is_rule, quote, row_cells
from data.sudoku.engine import SudokuError
from data.sudoku.layout import LOOKAHEAD, Layout, Lines, Row, paired
from files.json_text import check_depth, json_decoder, said_twice, why_not_json
from files.printable import printable

# Names of columns, without case, spaces and signs. Earlier names are preferred.
PUZZLE_NAMES = ("puzzle", "puzzles", "quizzes", "quiz", "question", "questions", "sudoku")
PUZZLE_NAMES += ("unsolved", "input", "problem")
SOLUTION_NAMES = ("solution", "solutions", "answer", "answers", "solved", "output")
DELIMITERS = (",", "\t", ";", "|", ":", " ")  # the space stands for any white space
CELLS = "0123456789."
LARGEST = max(BOXES) ** 4  # the number of cells of the largest grid
JSON_ACCEPTED = (
    'of JSON, give objects such as {"puzzle": "530...", "solution": "534..."}, one in each line or '
    "in one array"
)
MOST_IN_NAME = 8  # the most CELLS in the name of a column, unless half of it is something else

_RECORDS = re.compile(r'\s*(\{|\[[\s\[]*(\{|"[^"]{16}))')
_BETWEEN_RECORDS = re.compile(r"[\s,\[\]]*")


def is_json(lines: Lines) -> bool:
    """Whether a text is JSON: objects, or an array of objects or of texts."""
    return _RECORDS.match("".join(lines.peek(2))) is not None


def _records(lines: Lines) -> Iterator[tuple[int, dict[str, object]]]:
    """The records of a JSON text, each with the number of the line in which it begins.

    Raises:
      SudokuError: the text is not JSON.
    """
    parts, number = [], 1
    for line in lines:
        parts += ["\n" * (lines.number - number), line.rstrip("\r\n")]
        number = lines.number
    text, twice = "".join(parts), []
    decoder = json_decoder(twice)
    at, counted, number = _BETWEEN_RECORDS.match(text).end(), 0, 1
    while at < len(text):
        number, counted = number + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
            if twice:
                raise ValueError(said_twice(twice))
            check_depth(value, text[counted:at])
        except (ValueError, RecursionError) as error:
            raise SudokuError(f"line {number}: not JSON: {why_not_json(error)}") from None
        yield number, value if isinstance(value, dict) else {"puzzle": value}
        at = _BETWEEN_RECORDS.match(text, at).end()
    if text.lstrip().startswith("[") and not text.rstrip().endswith("]"):
        raise SudokuError("the array of puzzles is not closed: is the file cut short?")


def records_as_table(lines: Lines) -> Iterator[tuple[int, str]]:
    """The records of a JSON text as lines of a table. Its first line has the names of their fields.

    Names that only records after the first ones have are left out.

    Args:
      lines: the lines of the text.

    Yields:
      (the number of the line in which the record begins, its fields between commas).

    Raises:
      SudokuError: the text is not JSON, or a field has more than one grid.
    """
    records = _records(lines)
    first = list(itertools.islice(records, LOOKAHEAD))
    names = list(dict.fromkeys(name for _, record in first for name in record))
    yield from [(number, _joined(names)) for number, _ in first[:1]]
    for number, record in itertools.chain(first, records):
        for name, value in record.items():
            larger = isinstance(value, list | dict) and len(clean(_text(value))) > LARGEST
            if larger and _named([name], PUZZLE_NAMES + SOLUTION_NAMES) is not None:
                raise SudokuError(f"line {number}: {quote(name)} is not one grid: {JSON_ACCEPTED}")
        yield number, _joined(map(_text, map(record.get, names)))


def _text(value: object) -> str:
    """The text of a field of a record. null is an empty field, or an empty cell in a list."""
    if value is None:
        return ""
    return str(value).replace("None", "0") if isinstance(value, list) else str(value)


def _joined(texts: Iterable[str]) -> str:
    """A line of a table."""
    return ",".join('"' + text.replace('"', '""') + '"' for text in texts)


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
        if _is_row(first) or (clean(first) and any(row_cells(first, b) for b in BOXES)):
            break
    return None


def _table_below(lines: Lines, box: int, titles: int, delimiters: tuple[str, ...]) -> Layout | None:
    """The layout of a table below this many titles; None if it does not begin there."""

    def table(read_past: int, delimiter: str, names: list[str] | None) -> Layout:
        for _ in range(read_past):
            next(lines)
        return _table(lines, box, delimiter, names)._replace(left_out=lambda: titles)

    first, *rest = lines.peek(titles + 3)[titles:]
    for delimiter in sorted(delimiters, key=lambda d: not _parts(first, d, box)):
        if any(is_grid(field, box) for field in _split(first, delimiter)):
            return table(titles, delimiter, None)
    header = titles + 1
    if rest and "|" in first and is_rule(clean(rest[0])):  # a Markdown table
        header, rest = header + 1, rest[1:]
    second = rest[0] if rest else ""
    # A word such as Sudoku may also be the title of a drawn grid. The rows of a grid in quotation
    # marks are those of one field.
    quoted = second.count('"') % 2
    drawn = clean(second) and (is_rule(clean(second)) or any(row_cells(second, b) for b in BOXES))
    # More different fields than there are signs are the names of columns with one cell each.
    wide = any(len(set(first.split(delimiter))) > len(CELLS) for delimiter in ",;\t")
    for delimiter in sorted(delimiters, key=lambda d: not _parts(second, d, box)):
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
            return table(header if wide else titles, delimiter, None)
        if fits or (named and (grids or not any(is_grid(f, b) for f in row for b in BOXES))):
            return table(header, delimiter, names)
    return None


def _parts(line: str, delimiter: str, box: int) -> bool:
    """Whether a field between these delimiters is a grid, and has no other delimiter in it.

    So the grid of a line such as "530...;" ends at the semicolon.
    """
    fields = [field for field in _split(line, delimiter) if is_grid(field, box)]
    return any(set(field).isdisjoint(DELIMITERS[:-1]) for field in fields)


def _table(lines: Lines, box: int, delimiter: str, names: list[str] | None) -> Layout:
    """The layout of a table.

    Args:
      lines: the lines after the header.
      box: the box size.
      delimiter: one of DELIMITERS.
      names: the names of the columns; None without a header.

    Raises:
      SudokuError: it is not clear which column holds what.
    """
    puzzle = _named(names or [], PUZZLE_NAMES)
    solution = _named(names or [], SOLUTION_NAMES)
    plain = _plain(names or [])
    for column in (puzzle, solution):
        if column is not None and plain.count(plain[column]) > 1:
            raise SudokuError(
                f"several columns are named {plain[column]}: name only one of them so"
            )
    row = _first_grids(lines, box, delimiter)
    grids = [i for i, field in enumerate(row) if is_grid(field, box)]
    full = [i for i in grids if not set(BLANKS) & set(cells(row[i], box**4))]
    rest = [i for i in grids if i not in (puzzle, solution)]
    advice = "in a first line with the names of all columns"
    if puzzle is None:
        unsolved = [i for i in rest if i not in full or len(row) == 1]
        if len(unsolved) != 1:
            found = f"{len(unsolved)} columns hold grids with empty cells in the first rows"
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


def _first_grids(lines: Lines, box: int, delimiter: str) -> list[str]:
    """The first field of each column that is a grid, or else of the first row, as one row."""
    peeked, result = lines.peek(LOOKAHEAD), []
    rows = map(str.split, peeked) if delimiter == " " else _reader(peeked, delimiter)
    with contextlib.suppress(csv.Error):  # _table_rows meets it too, and tells it
        for row in rows:
            result += row[len(result) :]
            for i, field in enumerate(row):
                if not is_grid(result[i], box) and is_grid(field, box):
                    result[i] = field
    return result


def _table_rows(
    lines: Lines, delimiter: str, columns: int, puzzle: int, solution: int | None
) -> Iterator[Row]:
    """The rows of a table, from the first one on. Other columns may be missing, or added."""
    least = max(puzzle, solution or 0) + 1
    fields = map(str.split, lines) if delimiter == " " else _reader(lines, delimiter)
    try:
        for row in fields:
            if not any(map(str.strip, row)):  # as spreadsheets write a blank line
                continue
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
    plain = _plain(names)
    return next((plain.index(name) for name in known if name in plain), None)


def _plain(names: list[str]) -> list[str]:
    """The names without case, spaces and signs."""
    return ["".join(c for c in name.casefold() if c.isalnum()) for name in names]


def _is_row(text: str) -> bool:
    """Whether a text has too many CELLS for a title or the name of a column."""
    found = sum(c in CELLS for c in text)
    return found > MOST_IN_NAME and 2 * found > len(clean(text))
