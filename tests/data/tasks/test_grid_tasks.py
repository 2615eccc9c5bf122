"""Every kind of grid item against slow loops that know only the text of its prompt."""

import re

import pytest

from data.tasks import base_mixture
from data.tasks.base_mixture import MixtureSource
from data.tasks.grid_tasks import GRID_TASKS
from tests.data.tasks.units import UNITS, around, members


def split(item):
    instruction, material = item["prompt"].split(":\n")
    return instruction, [int(d) for d in material.split()]


def completions(grid, box, units):
    """Yields every way to fill the grid without a repeated digit in any of the units."""
    free = {}
    for i, digit in enumerate(grid):
        if digit == 0:
            shown = around(grid, box, units, i)
            free[i] = [d for d in range(1, box * box + 1) if d not in shown]
    if not free:
        yield grid
        return
    i = min(free, key=lambda i: len(free[i]))
    for digit in free[i]:
        yield from completions([*grid[:i], digit, *grid[i + 1 :]], box, units)


def expected(name, instruction, grid, box):
    n = box * box
    size = range(n * n)
    named = [u for u in UNITS if re.search(rf"\b{u}\b", instruction)]
    digits = [int(d) for d in re.findall(r"\d", instruction)]
    matrix = [grid[r * n : r * n + n] for r in range(n)]

    def missing(i, units):
        shown = around(grid, box, units, i)
        return [d for d in range(1, n + 1) if d not in shown]

    def flat(at):
        return [at(r, c) for r in range(n) for c in range(n)]

    if name in ("fill", "fill_every"):
        pick = min if "least" in instruction.lower() else max
        found = [pick(missing(i, named), default=0) for i in size]
        keep = name == "fill"
        return [grid[i] if grid[i] and keep else found[i] for i in size]
    if name == "complete":
        out = list(grid)
        for which in range(n):
            cells = members(box, named[0], which)
            left = [d for d in range(1, n + 1) if d not in [grid[i] for i in cells]]
            empty = [i for i in cells if grid[i] == 0]
            assert 1 <= len(empty) == len(left) <= 3
            for i, d in zip(empty, left, strict=True):
                out[i] = d
        return out
    if name == "solve":
        first, *others = completions(grid, box, named)
        assert not others
        return first
    if name == "single":
        options = [missing(i, named) for i in size]
        return [o[0] if d == 0 and len(o) == 1 else d for d, o in zip(grid, options, strict=True)]
    if name == "mark":
        out = []
        for i in size:
            twice = [u for u in named if around(grid, box, [u], i).count(grid[i]) > 1]
            out.append(int(bool(grid[i] and twice)))
        return out
    if name == "count":
        return [sum(d > 0 for d in around(grid, box, named, i)) for i in size]
    if name == "index":
        cells = [members(box, named[0], which) for which in range(n)]
        return [next(w + 1 for w in range(n) if i in cells[w]) for i in size]
    if name == "options":
        return [0 if grid[i] else len(missing(i, UNITS)) for i in size]
    if name == "keep":
        return [d if d == digits[0] else 0 for d in grid]
    if name == "place":
        fits = [grid[i] == 0 and digits[0] in missing(i, UNITS) for i in size]
        return [digits[0] if fits[i] else grid[i] for i in size]
    if name == "swap":
        d, e = digits
        return [{d: e, e: d}.get(x, x) for x in grid]
    if name == "read":
        return [grid[i] for i in members(box, named[0], digits[0] - 1)]
    if name == "sort":
        out = list(grid)
        for which in range(n):
            cells = members(box, named[0], which)
            for i, d in zip(cells, sorted(grid[i] for i in cells), strict=True):
                out[i] = d
        return out
    if name == "shift":
        k = digits[0]
        side = re.search(r"left|right|up|down", instruction).group()
        dr, dc = {"left": (0, k), "right": (0, -k), "up": (k, 0), "down": (-k, 0)}[side]
        return flat(lambda r, c: matrix[(r + dr) % n][(c + dc) % n])
    if name == "boxes":
        return [grid[i] for which in range(n) for i in members(box, "box", which)]
    at = {
        "copy": lambda r, c: matrix[r][c],
        "transpose": lambda r, c: matrix[c][r],
        "quarter": lambda r, c: matrix[n - 1 - c][r],
        "half": lambda r, c: matrix[n - 1 - r][n - 1 - c],
        "mirror": lambda r, c: matrix[r][n - 1 - c],
        "flip": lambda r, c: matrix[n - 1 - r][c],
    }
    return flat(at[name])


def only(name, monkeypatch, box):
    """A source of one kind of grid item alone."""
    monkeypatch.setattr(base_mixture, "GRID_TASKS", {name: GRID_TASKS[name]})
    return MixtureSource(5, shares=((box, 1.0),))


@pytest.mark.parametrize("box", [2, 3])
@pytest.mark.parametrize("name", GRID_TASKS)
def test_answers(name, box, monkeypatch):
    source, answers = only(name, monkeypatch, box), set()
    for i in range(40):
        item = source[i]
        assert item["task"] == f"{name}_{box * box}x{box * box}"
        instruction, grid = split(item)
        assert len(grid) == box**4
        assert set(grid) <= set(range(box * box + 1))
        assert [int(d) for d in item["answer"].split()] == expected(name, instruction, grid, box), (
            item["prompt"]
        )
        answers.add(item["answer"])
    assert len(answers) == 3 if name == "index" else len(answers) > 20
