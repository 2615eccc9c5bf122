"""Items with grids of digits: the greater part of the base mixture (data/tasks/base_mixture.py).

They teach the skills that Sudoku needs: to see the cells of a row, a column or a box, to find the
digits that are missing there, and to use what was found for the next step. A grid is int64 [N] in
reading order, with 0 for an empty cell.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from data.tasks.board import BOX, COLUMN, ROW, UNIT_NAMES, Board, repeated, seen

# The parts of an item: the fields of its instruction, its grid [N], and its answer [N] or [n].
Drawn = tuple[dict[str, Any], np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator, Board], Drawn]


# The functions that make grids, int64 [N].


def _random_grid(
    rng: np.random.Generator, b: Board, low: float = 0.2, high: float = 1.0
) -> np.ndarray:
    """Random digits in a share of the cells. The share is drawn between `low` and `high`."""
    cells = b.n * b.n
    return rng.integers(1, b.n + 1, cells) * (rng.random(cells) < rng.uniform(low, high))


def _permutation_grid(rng: np.random.Generator, b: Board, kind: int) -> np.ndarray:
    """A full grid in which every unit of one kind is an independent permutation of 1..n."""
    grid = np.empty(b.n * b.n, np.int64)
    grid[b.units[kind]] = rng.random((b.n, b.n)).argsort(1) + 1
    return grid


def _square(rng: np.random.Generator, b: Board, kinds: tuple[int, int]) -> np.ndarray:
    """A full grid in which every unit of two kinds is a permutation of 1..n.

    For rows and columns this is a Latin square.
    """
    if kinds == (COLUMN, BOX):
        return _square(rng, b, (ROW, BOX)).reshape(b.n, b.n).T.reshape(-1)
    grid = np.zeros(b.n * b.n, np.int64)
    for row in b.units[ROW]:
        # The cells and the digits that each of them may hold form a regular graph, so there is
        # always a matching.
        taken = seen(b, grid, kinds)[row, None] >> np.arange(b.n) & 1
        cells, digits = linear_sum_assignment(rng.random((b.n, b.n)) + b.n * taken)
        grid[row[cells]] = digits + 1
    return grid


def _singles(b: Board, grid: np.ndarray, kinds: tuple[int, ...]) -> np.ndarray:
    """Fills the cells that follow one by one, and returns the new grid.

    A cell follows if only one digit fits into it, or if it is the only cell of a unit for a digit.
    """
    grid = grid.copy()
    while True:
        shown = seen(b, grid, kinds)[:, None] >> np.arange(b.n) & 1
        fits = (grid == 0)[:, None] & (shown == 0)
        forced = fits & (fits.sum(1) == 1)[:, None]
        for kind in kinds:
            inside = fits[b.units[kind]]
            forced[b.units[kind]] |= inside & (inside.sum(1) == 1)[:, None]
        cells, digits = np.nonzero(forced)
        if not cells.size:
            return grid
        grid[cells] = digits + 1


# The functions that draw items.


def _names(kinds: tuple[int, ...]) -> str:
    """The names of kinds of units, as an instruction lists them."""
    names = [UNIT_NAMES[k] for k in kinds]
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


_KINDS = ((ROW,), (COLUMN,), (BOX,), (ROW, COLUMN), (ROW, BOX), (COLUMN, BOX), (ROW, COLUMN, BOX))
_KIND_CUMULATIVE = np.cumsum([0.13, 0.13, 0.13, 0.1, 0.1, 0.1, 0.31])
# The shares of filled cells at which the answers vary most, by the number of kinds of units. Three
# kinds together show the most digits, so fewer cells are filled then.
_DENSITY = {1: (0.5, 0.97), 2: (0.3, 0.9), 3: (0.15, 0.75)}


def _missing_grid(
    rng: np.random.Generator, b: Board, which: str
) -> tuple[tuple[int, ...], np.ndarray]:
    """Kinds of units, and a grid for a question about the digits that these units lack."""
    kinds = _KINDS[int(np.searchsorted(_KIND_CUMULATIVE, rng.random() * _KIND_CUMULATIVE[-1]))]
    low, high = _DENSITY[len(kinds)]
    if rng.random() < 0.5:
        # Digits at the end that is asked for are drawn more often. Otherwise the answer would be 1
        # (or n) too often.
        grid = (b.n * rng.random(b.n * b.n) ** rng.uniform(1, 3)).astype(np.int64) + 1
        if which == "greatest":
            grid = b.n + 1 - grid
    else:
        grid = _permutation_grid(rng, b, kinds[rng.integers(len(kinds))])
    return kinds, grid * (rng.random(b.n * b.n) < rng.uniform(low, high))


def _fill(rng: np.random.Generator, b: Board, every: bool = False) -> Drawn:
    which = "least" if rng.random() < 0.7 else "greatest"
    kinds, grid = _missing_grid(rng, b, which)
    found = getattr(b, which)[seen(b, grid, kinds)]
    answer = found if every else np.where(grid > 0, grid, found)
    return {"which": which, "units": _names(kinds)}, grid, answer


def _fill_every(rng: np.random.Generator, b: Board) -> Drawn:
    return _fill(rng, b, every=True)


def _complete(rng: np.random.Generator, b: Board) -> Drawn:
    """A grid with one to three empty cells in every unit of one kind.

    The answer has the missing digits there, in ascending order.
    """
    kind = int(rng.integers(3))
    empties = 1 if rng.random() < 0.6 else int(rng.integers(2, 4))
    full = _permutation_grid(rng, b, kind)
    values = full[b.units[kind]]
    empty = np.sort(rng.random((b.n, b.n)).argsort(1)[:, :empties], axis=1)
    rows = np.arange(b.n)[:, None]
    missing = np.sort(values[rows, empty], axis=1)
    grid, answer = full.copy(), full.copy()
    grid[b.units[kind][rows, empty]] = 0
    answer[b.units[kind][rows, empty]] = missing
    return {"units": UNIT_NAMES[kind]}, grid, answer


def _solve(rng: np.random.Generator, b: Board) -> Drawn:
    """A grid of `_square` with empty cells. Singles are enough to find its one completion."""
    kinds = ((ROW, COLUMN), (ROW, BOX), (COLUMN, BOX))[rng.integers(3)]
    answer = _square(rng, b, kinds)
    grid = answer * (rng.random(b.n * b.n) < rng.uniform(0.3, 0.8))
    found = _singles(b, grid, kinds)
    for cell in rng.permutation(b.n * b.n):
        if not found[cell]:
            grid[cell] = found[cell] = answer[cell]
            found = _singles(b, found, kinds)
    return {"units": _names(kinds)}, grid, answer


def _single(rng: np.random.Generator, b: Board) -> Drawn:
    kinds, grid = _missing_grid(rng, b, "least")
    shown = seen(b, grid, kinds)
    forced = (grid == 0) & (b.lacking[shown] == 1)
    return {"units": _names(kinds)}, grid, np.where(forced, b.least[shown], grid)


def _mark(rng: np.random.Generator, b: Board) -> Drawn:
    kinds = ((ROW,), (COLUMN,), (BOX,), (ROW, COLUMN, BOX))[rng.integers(4)]
    grid = _random_grid(rng, b, 0.1, 0.6 if len(kinds) > 1 else 1.0)
    units = "row, column or box" if len(kinds) > 1 else _names(kinds)
    return {"units": units}, grid, repeated(b, grid, kinds).astype(np.int64)


def _count(rng: np.random.Generator, b: Board) -> Drawn:
    kind, grid = int(rng.integers(3)), _random_grid(rng, b)
    full = (grid[b.units[kind]] > 0).sum(1)
    return {"units": UNIT_NAMES[kind]}, grid, full[b.unit_of[kind]]


def _index(rng: np.random.Generator, b: Board) -> Drawn:
    kind = int(rng.integers(3))
    return {"units": UNIT_NAMES[kind]}, _random_grid(rng, b), b.unit_of[kind] + 1


def _options(rng: np.random.Generator, b: Board) -> Drawn:
    grid = _random_grid(rng, b, 0.1, 0.8)
    lacking = b.lacking[seen(b, grid, (ROW, COLUMN, BOX))]
    return {}, grid, np.where(grid > 0, 0, lacking)


def _keep(rng: np.random.Generator, b: Board) -> Drawn:
    grid, digit = _random_grid(rng, b, 0.3), int(rng.integers(1, b.n + 1))
    return {"d": digit}, grid, np.where(grid == digit, digit, 0)


def _place(rng: np.random.Generator, b: Board) -> Drawn:
    grid, digit = _random_grid(rng, b, 0.1, 0.7), int(rng.integers(1, b.n + 1))
    shown = seen(b, grid, (ROW, COLUMN, BOX)) >> (digit - 1) & 1
    return {"d": digit}, grid, np.where((grid == 0) & (shown == 0), digit, grid)


def _swap(rng: np.random.Generator, b: Board) -> Drawn:
    grid = _random_grid(rng, b, 0.3)
    d, e = (int(x) + 1 for x in rng.permutation(b.n)[:2])
    return {"d": d, "e": e}, grid, np.where(grid == d, e, np.where(grid == e, d, grid))


def _read(rng: np.random.Generator, b: Board) -> Drawn:
    kind, which, grid = int(rng.integers(3)), int(rng.integers(b.n)), _random_grid(rng, b)
    return {"units": UNIT_NAMES[kind], "d": which + 1}, grid, grid[b.units[kind][which]]


def _sort(rng: np.random.Generator, b: Board) -> Drawn:
    kind, grid = int(rng.integers(2)), _random_grid(rng, b)
    answer = np.empty_like(grid)
    answer[b.units[kind]] = np.sort(grid[b.units[kind]], axis=1)
    return {"units": UNIT_NAMES[kind]}, grid, answer


_SHIFTS = {"left": (-1, 1), "right": (1, 1), "up": (-1, 0), "down": (1, 0)}


def _shift(rng: np.random.Generator, b: Board) -> Drawn:
    side = ("left", "right", "up", "down")[rng.integers(4)]
    step, axis = _SHIFTS[side]
    grid, k = _random_grid(rng, b), int(rng.integers(1, 4))
    moved = np.roll(grid.reshape(b.n, b.n), step * k, axis)
    return {"d": k, "side": side}, grid, moved.reshape(-1)


def _moved(permute: Callable[[np.ndarray], np.ndarray]) -> Draw:
    """Items that ask for the grid with its cells moved. `permute` maps [n, n] to [n, n]."""

    def draw(rng: np.random.Generator, b: Board) -> Drawn:
        grid = _random_grid(rng, b)
        return {}, grid, permute(grid.reshape(b.n, b.n)).reshape(-1)

    return draw


def _boxes(rng: np.random.Generator, b: Board) -> Drawn:
    grid = _random_grid(rng, b)
    return {}, grid, grid[b.units[BOX]].reshape(-1)


# Name: (weight in percent, the function that draws an item, the instructions). The skills that
# Sudoku needs most have the largest weights.
GRID_TASKS: dict[str, tuple[int, Draw, tuple[str, ...]]] = {
    "fill": (
        13,
        _fill,
        (
            "Fill empty cells with the {which} digit missing from {units}",
            "Fill in the {which} digit that {units} lack",
            "{which} missing digit by {units}",
        ),
    ),
    "fill_every": (
        4,
        _fill_every,
        ("For every cell the {which} digit missing from {units}",),
    ),
    "complete": (
        8,
        _complete,
        (
            "Complete every {units} with its missing digits in order",
            "Each {units} has every digit once, fill the empty cells",
            "Complete each {units}",
        ),
    ),
    "solve": (
        32,
        _solve,
        (
            "Fill the grid, each {units} has every digit once",
            "Each {units} has every digit once, fill the empty cells",
        ),
    ),
    "single": (
        8,
        _single,
        (
            "Fill empty cells that can hold one digit by {units}",
            "Fill each cell that lacks only one digit by {units}",
        ),
    ),
    "mark": (
        2,
        _mark,
        (
            "Mark each digit that occurs again in its {units}",
            "Mark repeated digits by {units}",
        ),
    ),
    "count": (
        2,
        _count,
        ("For every cell count the full cells of its {units}", "Count full cells by {units}"),
    ),
    "index": (
        8,
        _index,
        ("For every cell the number of its {units}",),
    ),
    "options": (
        3,
        _options,
        (
            "How many digits can each empty cell hold",
            "Count the digits that row, column and box lack",
        ),
    ),
    "keep": (2, _keep, ("Keep only digit {d}", "Where is digit {d}", "Show the {d} cells")),
    "place": (
        4,
        _place,
        (
            "Put {d} in every empty cell that can hold it",
            "Put {d} where row, column and box lack it",
            "Place every {d}",
        ),
    ),
    "swap": (1, _swap, ("Swap {d} and {e}", "Swap the digits {d} and {e} in the grid")),
    "read": (2, _read, ("Read {units} {d}", "Write the digits of {units} {d}")),
    "sort": (1, _sort, ("Sort every {units}", "Sort the digits in each {units}")),
    "shift": (
        2,
        _shift,
        ("Shift the grid {side} by {d}", "Move every cell {d} {side}"),
    ),
    "copy": (2, _moved(lambda g: g), ("Copy the grid", "Copy", "Write the same grid again")),
    "transpose": (
        1,
        _moved(np.transpose),
        ("Transpose the grid", "Transpose", "Write the grid column by column"),
    ),
    "quarter": (1, _moved(lambda g: np.rot90(g, -1)), ("Rotate by a quarter turn", "Turn right")),
    "half": (1, _moved(lambda g: g[::-1, ::-1]), ("Rotate by a half turn", "Turn around")),
    "mirror": (1, _moved(np.fliplr), ("Mirror left and right", "Mirror each row")),
    "flip": (1, _moved(np.flipud), ("Turn the grid upside down", "Mirror up and down")),
    "boxes": (1, _boxes, ("Write the grid box by box", "Read box by box")),
}
