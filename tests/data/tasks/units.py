"""The units of a board, cell by cell and without tables: the slow way that tests compare with."""

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
    """Digits of the cells that share one of the units with cell i, itself included."""
    return [grid[j] for j in range(len(grid)) if any(same_unit(box, u, i, j) for u in units)]


def members(box, unit, which):
    """Cells of a unit in reading order; the units are numbered by their first cell."""
    n, cells, firsts = box * box, range(box**4), []
    for i in cells:
        if not any(same_unit(box, unit, i, first) for first in firsts):
            firsts.append(i)
    assert len(firsts) == n
    return [i for i in cells if same_unit(box, unit, i, firsts[which])]
