"""Every grid task against slow loops that read the task from the prompt's text alone."""

import re
from collections import Counter

import pytest

from data.tasks import base_mixture
from data.tasks.base_mixture import TaskSource, task_to_text
from data.tasks.grid_tasks import GRID_TASKS
from data.text.packing import pack
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import chat_answer, chat_prompt

UNITS = ("row", "column", "box")


def split(item):
    instruction, material = item["prompt"].split(":\n")
    return instruction, [int(d) for d in material.split()]


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


def completions(grid, box, units):
    """Every way to fill the grid without a repeated digit in any of the units."""
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
    """A source of one grid task alone."""
    monkeypatch.setattr(base_mixture, "GRID_TASKS", {name: GRID_TASKS[name]})
    return TaskSource(5, shares=((box, 1.0),))


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


WORD_ANSWERS = {
    "copy_words": lambda m: m,
    "reverse_words": lambda m: m[::-1],
    "count_words": lambda m: list(str(len(m))),
    "sort_digits": sorted,
    "add": lambda m: list(str(sum(numbers(m)))),
    "compare": lambda m: list(str(max(numbers(m)))),
}


def numbers(material):
    return [int(text.replace(" ", "")) for text in " ".join(material).split("and")]


def test_word_answers():
    source, done = TaskSource(6, shares=()), Counter()
    for i in range(300):
        item = source[i]
        material = item["prompt"].split(":\n")[1].split()
        assert item["answer"] == " ".join(WORD_ANSWERS[item["task"]](material)), item
        done[item["task"]] += 1
    assert set(done) == set(WORD_ANSWERS)


def test_an_item_depends_on_seed_and_index_only():
    first, second = TaskSource(7), TaskSource(7, size=100)
    forward = [first[i] for i in range(100)]
    assert [second[i] for i in reversed(range(100))] == forward[::-1]
    assert sum(TaskSource(8)[i] == forward[i] for i in range(100)) < 3
    assert len({item["prompt"] for item in forward}) > 95
    for index in (-1, 100):
        with pytest.raises(IndexError, match="of a source of 100"):
            second[index]


def test_errors():
    with pytest.raises(ValueError, match="more than 1"):
        TaskSource(0, shares=((3, 0.8), (2, 0.3)))
    with pytest.raises(ValueError, match="box sizes are"):
        TaskSource(0, shares=((4, 0.5),))


def test_mixture():
    source = TaskSource(9)
    count = Counter(source[i]["task"] for i in range(4000))
    large = sum(c for name, c in count.items() if "9x9" in name)
    fills = sum(count[f"{name}_9x9"] for name in ("fill", "fill_every", "complete"))
    assert abs(large / 4000 - 0.85) < 0.03
    assert abs(sum(c for name, c in count.items() if "4x4" in name) / 4000 - 0.1) < 0.02
    assert abs(fills / large - 0.25) < 0.03
    assert sum(task[0] for task in GRID_TASKS.values()) == 100


def sudokus(source, count):
    """How many grids could be a puzzle or a solution: enough digits and none repeated."""
    found = 0
    for i in range(count):
        item = source[i]
        if "x" not in item["task"]:
            continue
        box = 2 if "4x4" in item["task"] else 3
        cells = [[members(box, u, k) for k in range(box * box)] for u in UNITS]
        for text in (item["prompt"].split(":\n")[1], item["answer"]):
            grid = [int(d) for d in text.split()]
            if len(grid) < box**4 or sum(d > 0 for d in grid) < (4 if box == 2 else 17):
                continue
            units = [[grid[i] for i in unit if grid[i]] for kind in cells for unit in kind]
            found += all(len(unit) == len(set(unit)) for unit in units)
    return found


@pytest.fixture
def fast_members(monkeypatch):
    cache = {}
    slow = members

    def fast(*key):
        if key not in cache:
            cache[key] = slow(*key)
        return cache[key]

    monkeypatch.setitem(globals(), "members", fast)


def test_no_sudoku(fast_members, monkeypatch):
    assert sudokus(TaskSource(10), 5000) == 0
    assert sudokus(TaskSource(10, shares=((2, 1.0),)), 2000) == 0
    # What the check is there for: without it, they do occur.
    monkeypatch.setattr(base_mixture, "looks_like_sudoku", lambda board, grid: False)
    assert sudokus(TaskSource(10, shares=((2, 1.0),)), 300) > 0
    assert sudokus(TaskSource(10), 5000) > 0


def test_everything_fits_the_base_models_row():
    source, tok = TaskSource(11), Tokenizer.load()
    for i in range(3000):
        user, answer = task_to_text(source[i])
        prompt, reply = tok.encode(chat_prompt(user)), tok.encode(chat_answer(answer))
        assert len(reply) <= 90
        assert pack(prompt, reply, 116, 90, 1, tok.eos_id, tok.pad_id)["num_canvases"] == 1
