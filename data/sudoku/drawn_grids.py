"""Finds drawn grids in a text: a line for each row, as in .ss files and in .sdk files."""

import re
from collections.abc import Iterator

from data.sudoku.cells import BLANKS, clean, is_rule, quote, row_cells, unknown_sign
from data.sudoku.layout import LOOKAHEAD, Layout, Lines, Row, paired

_SECTION = re.compile(r"\s*\[\s*([A-Za-z]+)\s*\]\s*")


def find_grids(lines: Lines, box: int) -> Layout | None:
    """The layout of drawn grids; None if no line looks like a row of one.

    A full grid that directly follows a puzzle and completes it is its solution. After a line
    [Puzzle], the sections with other names are left out.
    """
    if not any(row_cells(line, box) for line in lines.peek(LOOKAHEAD)):
        return None
    left_out = [0]
    return Layout(
        box=box,
        title=f"drawn as grids of {box**2} lines",
        unit="grid",
        rows=paired(_grid_rows(lines, box, left_out), box),
        left_out=lambda: left_out[0],
    )


def _grid_rows(lines: Lines, box: int, left_out: list[int]) -> Iterator[Row]:
    """The grids of a text.

    Args:
      lines: the lines.
      box: the box size.
      left_out: [1], counts the lines of other text. Such lines may stand between grids.
    """
    n, rows, dashes = box * box, [], False
    sections, skipped = False, False  # whether [Puzzle] was read, and whether it has ended
    for line in lines:
        if section := None if rows else _SECTION.fullmatch(line):
            sections |= section[1].casefold() == "puzzle"
            skipped = sections and section[1].casefold() != "puzzle"
        if section or skipped:
            left_out[0] += 1
            continue
        row = row_cells(line, box) or _dashes(line, rows, box)
        if not rows and not row:  # the first row of an array in a program
            row = row_cells(line.rpartition("[")[2], box)
        if _is_empty_row(line, n):
            # Above a grid it may be a gap, or the empty heading of a Markdown table.
            ahead = lines.peek(n + 1)
            drawn = [bool(clean(a) and row_cells(a, box)) for a in ahead]
            gap = not rows and len(ahead) != n - 1
            heading = is_rule(clean(ahead[0])) if ahead else True
            if gap and not heading and drawn not in ([True] * n, [True] * n + [False]):
                problem = "this empty line may be the first row of a grid, or a gap above it"
                yield Row(lines.number, problem=f"{problem}: write 0 for each empty cell")
                return
            row = "" if gap else "0" * n
        if row:
            rows.append(row)
        elif is_rule(clean(line)):
            dashes |= clean(line) == "-" * n
            continue
        elif rows or not any(c.isalpha() and c not in BLANKS for c in line):
            problem = f"{quote(line)} is not a row of {n} cells{unknown_sign(line)}"
            if rows:
                count = f"{len(rows)} row{'s' * (len(rows) > 1)}"
                problem += f", and the grid has only {count} before it"
            yield Row(lines.number, problem=problem)
            return
        else:
            left_out[0] += 1
        if len(rows) == n:
            yield Row(lines.number, "".join(rows))
            rows = []
    if rows:
        hint = ", and dots in an empty row, because a line of dashes is a rule" if dashes else ""
        count = f"{len(rows)} row{'s' * (len(rows) > 1)}"
        yield Row(lines.number, problem=f"the grid has {count}: draw all {n}{hint}")


def _is_empty_row(line: str, n: int) -> bool:
    """Whether a line is n fields with nothing in them, between tabs or bars."""
    if clean(line) or "," in line:
        return False
    bars = line.strip().removeprefix("|").removesuffix("|").count("|")
    return n - 1 in (bars, line.count("\t"))


def _dashes(line: str, rows: list[str], box: int) -> str:
    """The cells of an empty row that is drawn with dashes; "" for any other line.

    It is one in a grid whose rows before it have dashes for their empty cells; else it is a rule.
    """
    dashes = "-" * (box * box)
    is_row = "-" in "".join(rows) and "+" not in line
    return dashes if is_row and clean(line) == dashes else ""
