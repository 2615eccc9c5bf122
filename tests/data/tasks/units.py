"""The units of a board, found cell by cell and without tables. Tests compare with this slow way."""

UNITS = ("row", "column", "box")


def same_unit(box, unit, i, j):
    n = box * box
    (r, c), (s, d) = divmod(i, n), divmod(j, n)
    if unit == "row":
        return r == s
    if unit == "column":
        return c == d
    return (r // box, c // box) == (s // box, d // box)


def around(grid, box, units, i):
    """The digits of all cells that share one of the units with cell i, and of cell i itself."""
    return [grid[j] for j in range(len(grid)) if any(same_unit(box, u, i, j) for u in units)]


def members(box, unit, which):
    """The cells of a unit in reading order. Units are numbered by their first cell."""
    n, cells, firsts = box * box, range(box**4), []
    for i in cells:
        if not any(same_unit(box, unit, i, first) for first in firsts):
            firsts.append(i)
    assert len(firsts) == n
    return [i for i in cells if same_unit(box, unit, i, firsts[which])]
