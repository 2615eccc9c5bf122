"""Finds the puzzles in a text, whatever program wrote it: a table, single lines, or drawn grids.

A table has a puzzle in each row, and perhaps its solution. Its columns are found by the names in
its header, or else by what is in them. Without a header, a row may also be one puzzle alone, as in
.sdm files. The records of a JSON text are such rows (data/sudoku/tables.py). A drawn grid has a
line for each of its rows, as in .ss files (data/sudoku/drawn_grids.py). Blank lines and lines that
begin with # or // say nothing. In a text without a column of solutions, a full grid that directly
follows a puzzle and completes it is its solution. data/sudoku/cells.py says what a cell is.
"""

from collections.abc import Iterable

from data.sudoku.cells import BOXES, clean, quote, unknown_sign
from data.sudoku.drawn_grids import find_grids
from data.sudoku.engine import SudokuError
from data.sudoku.layout import LOOKAHEAD, Layout, Lines
from data.sudoku.tables import DELIMITERS, JSON_ACCEPTED, find_table, is_json, records_as_table

ACCEPTED = (
    "give a table with a column puzzle, a puzzle in each line, or grids of one line for each row, "
    "with 0 . * _ ? or x for an empty cell"
)


def find_layout(lines: Iterable[str], boxes: Iterable[int] = BOXES) -> Layout:
    """Finds out how the puzzles of a text are laid out.

    Args:
      lines: the lines of the text.
      boxes: the box sizes to look for. The first that fits is taken.

    Raises:
      SudokuError: no puzzle of these sizes is found, or it is not clear which column holds what.
    """
    lines, boxes = Lines(enumerate(lines, 1)), tuple(boxes)
    first = lines.peek(1)
    if not first:
        raise SudokuError(f"no puzzles: the text is empty, or comments alone: {ACCEPTED}")
    delimiters = DELIMITERS
    if is_json(lines):
        lines, delimiters = Lines(records_as_table(lines)), (",",)
    for box in (*boxes, *(box for box in BOXES if box not in boxes)):
        found = find_table(lines, box, delimiters) or find_grids(lines, box)
        if found and box in boxes:
            return found
        if found:
            n, flag = box * box, f"--box={box}, or --config.data.box={box} in a training"
            raise SudokuError(f"the puzzles are {n}x{n}: set box to {box} ({flag})")
    sign = next(filter(None, map(unknown_sign, lines.peek(LOOKAHEAD))), "")
    count = len(clean(first[0]))
    counted = f" ({count} character{'s' * (count > 1)})" if count else ""
    accepted = JSON_ACCEPTED if first[0].lstrip().startswith(("{", "[")) else ACCEPTED
    raise SudokuError(
        f"no puzzle is found; the text begins with {quote(first[0])}{counted}{sign}: {accepted}"
    )
