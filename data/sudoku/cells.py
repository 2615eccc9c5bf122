"""The cells of a puzzle in a text: digits, signs for empty cells, and what may stand between them.

A cell is a digit, or one of BLANKS for an empty cell. Spaces and signs such as | may stand between
the cells. Where commas, semicolons, tabs or bars part the cells, an empty cell may also be nothing,
if there are no other signs for empty cells.
"""

import unicodedata

from files.printable import printable

BOXES = (3, 2)  # box sizes: of 9x9 puzzles and of 4x4 puzzles
# A dash is an empty cell only beside other cells, because a line of dashes draws a rule.
BLANKS = "0._*?xX-"
QUOTED = 40  # the number of characters of a line that an error quotes

_LINES_OF_BOXES = {code: None for code in range(0x2500, 0x2580)}  # Unicode's box drawing
_MARKS = {0x200B: None, 0x20E3: None, 0xFE0F: None, 0xFEFF: None}  # characters that take no room
_BETWEEN = " \t\r\n|!+,;:[](){}\"'`"
_SEPARATORS = str.maketrans("", "", _BETWEEN) | _LINES_OF_BOXES | _MARKS
_SPACES = dict.fromkeys(_SEPARATORS, " ")
# Signs for empty cells and dashes that are not ASCII.
_PLAIN = str.maketrans("·•∙●○□☐▢⬜\u2013\u2014\u2212", "." * 9 + "-" * 3)


def _plain(text: str) -> str:
    """A text with plain digits, spaces and signs for empty cells in place of Unicode's others."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_PLAIN)


def clean(text: str) -> str:
    """A text without the signs that may stand between cells."""
    return _plain(text).translate(_SEPARATORS)


def cells(text: str, count: int) -> str:
    """The cells of a text.

    Args:
      text: any text.
      count: the number of cells that it should have. If the text has as many fields, with one
        digit or nothing in each, then nothing is an empty cell.

    Returns:
      as clean; `count` characters if the text is as it should be.
    """
    line = text.strip("\r\n")
    framed = line.strip().removeprefix("|").removesuffix("|")
    for whole, delimiter in ((line, ","), (line, ";"), (line, "\t"), (framed, "|")):
        if whole.count(delimiter) == count and delimiter != "|":
            whole = whole.removesuffix(delimiter)
        if whole.count(delimiter) == count - 1:
            fields = [clean(field) for field in whole.split(delimiter)]
            # A line of bars alone is the empty heading of a Markdown table. Beside signs for empty
            # cells, a field without any is a lost cell.
            found = "".join(fields)
            single = max(map(len, fields)) <= 1 and (delimiter != "|" or found)
            if single and (all(fields) or set(BLANKS).isdisjoint(found)):
                return "".join(field or "0" for field in fields)
    return clean(text)


def symbols(box: int) -> frozenset[str]:
    """The characters that a cell may be."""
    return frozenset(BLANKS + "123456789"[: box * box])


def whole_cells(text: str, count: int, box: int) -> str:
    """The cells of a text that has exactly `count` of them and no other signs, or else ""."""
    found = cells(text, count)
    return found if len(found) == count and set(found) <= symbols(box) else ""


def is_grid(text: str, box: int) -> bool:
    """Whether a text is one grid: its cells, and perhaps signs between groups of equal length."""
    # A number before a grid that lacks a cell is no cell: its group is shorter.
    groups = {len(group) for group in _plain(text).translate(_SPACES).split()}
    return bool(whole_cells(text, box**4, box)) and len(groups) == 1


def row_cells(line: str, box: int) -> str:
    """The cells of a line that is one row of a drawn grid; "" for any other line."""
    row = whole_cells(line, box * box, box)
    return "" if is_rule(row) else row


def is_rule(cleaned: str) -> bool:
    """Whether a line, as `clean` gives it, draws a rule such as ---+---+--- or *-----*."""
    drawn, length = set(cleaned), len(cleaned)
    # These signs are also those of empty cells, so a rule of them is longer than a row.
    if length > 9 and length not in (16, 81) and drawn <= set("-=~_*.o/\\"):
        return any(4 * sign in cleaned for sign in "-=~_*")
    return not drawn or (drawn <= set("-=*") and drawn != {"*"})


def quote(line: str) -> str:
    """The beginning of a line, for an error."""
    text = " ".join(printable(line).split())
    return repr(text if len(text) <= QUOTED else text[:QUOTED] + "...")


def named_sign(sign: str) -> str:
    """A character for an error, with its code point if it may look like another one."""
    return repr(sign) if sign.isascii() else f"{sign!r} (U+{ord(sign):04X})"


def unknown_sign(line: str) -> str:
    """Names the first sign that is no cell in a line that is as long as a row or a grid.

    Returns:
      text to append to an error; "" if the line has another length, no digit, or no such sign.
    """
    found = clean(line)
    signs = [c for c in found if c not in symbols(3)]
    if len(found) not in (9, 16, 81) or not signs or not any(c in "123456789" for c in found):
        return ""
    return f"; {named_sign(signs[0])} is neither a digit nor an empty cell"
