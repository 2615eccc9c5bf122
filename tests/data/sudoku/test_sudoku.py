import itertools
import random

import numpy as np
import pytest

from data.sudoku import engine, grids
from data.sudoku.engine import count_many, count_solutions, difficulty, generate, solve
from data.sudoku.grids import SudokuError

CLASSIC = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


def grid(text):
    return np.array([int(c) for c in text.replace(".", "0")], np.int8)


def units(box):
    n = box * box
    rows = np.arange(n * n).reshape(n, n)
    boxes = rows.reshape(box, box, box, box).swapaxes(1, 2).reshape(n, n)
    return [set(unit.tolist()) for unit in (*rows, *rows.T, *boxes)]


UNITS = {box: units(box) for box in (2, 3)}
PEERS = {
    box: [set().union(*(u for u in units if c in u)) - {c} for c in range(box**4)]
    for box, units in UNITS.items()
}


def candidates(grid, box):
    digits = set(range(1, box * box + 1))
    return {c: digits - {grid[p] for p in PEERS[box][c]} for c in range(box**4) if not grid[c]}


def brute(puzzle, box):
    """All solutions, by plain recursion over sets of candidates."""
    free = candidates(puzzle, box)
    if not free:
        yield list(puzzle)
        return
    cell = min(free, key=lambda c: len(free[c]))
    for digit in free[cell]:
        yield from brute([*puzzle[:cell], digit, *puzzle[cell + 1 :]], box)


def contradicts(puzzle, box):
    return any(puzzle[c] and puzzle[c] == puzzle[p] for c in range(box**4) for p in PEERS[box][c])


def rate(puzzle, box):
    """difficulty(), by sets."""
    grid = list(puzzle)
    level = 0
    while not all(grid):
        options = candidates(grid, box)
        sure = {c: d for c, d in options.items() if len(d) == 1}
        if not sure:
            level = 1
            for unit in UNITS[box]:
                for c in unit & options.keys():
                    others = (options[o] for o in unit & options.keys() - {c})
                    alone = options[c].difference(*others)
                    if alone:
                        sure[c] = alone
        if not sure:
            return 2
        cell, found = sure.popitem()
        grid[cell] = found.pop()
    return level


def test_solving_the_classic():
    puzzle, solution = grid(CLASSIC), grid(SOLVED)
    assert np.array_equal(solve(puzzle, 3), solution) and solve(puzzle, 3).dtype == np.int8
    assert np.array_equal(puzzle, grid(CLASSIC))
    assert count_solutions(puzzle, 3) == count_solutions(solution, 3) == 1
    wrong = puzzle.copy()
    wrong[2] = 1  # no clue contradicts it
    assert count_solutions(wrong, 3) == 0 and solve(wrong, 3) is None
    wrong[2] = 5  # a second 5 in the row
    assert count_solutions(wrong, 3) == 0 and solve(wrong, 3) is None


def test_counting_agrees_with_brute_force():
    assert count_solutions(np.zeros(16, int), 2, limit=1000) == 288
    assert count_solutions(np.zeros(81, int), 3, limit=5) == 5
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(150):
        puzzle = generate(rng, 2, 16)[1] * (rng.random(16) < rng.uniform(0.1, 0.5))
        if rng.random() < 0.3:
            puzzle[rng.integers(16)] = rng.integers(1, 5)
        solutions = [] if contradicts(puzzle, 2) else list(brute(puzzle.tolist(), 2))
        assert count_solutions(puzzle, 2, limit=300) == len(solutions)
        assert count_solutions(puzzle, 2) == min(2, len(solutions))
        found = solve(puzzle, 2)
        assert found is None if not solutions else found.tolist() in solutions
        seen.add(min(len(solutions), 3))
    assert seen == {0, 1, 2, 3}
    puzzles = np.array([generate(rng, 3, 30)[0] for _ in range(6)])
    puzzles[::2] *= rng.random((3, 81)) < 0.9
    expected = [len(list(itertools.islice(brute(p.tolist(), 3), 2))) for p in puzzles]
    assert count_many(puzzles, 3).tolist() == expected and set(expected) == {1, 2}


@pytest.mark.parametrize(
    ("box", "clues", "count"),
    [(2, 4, 20), (2, 7, 20), (2, 16, 3), (3, 24, 2), (3, 28, 6), (3, 45, 6), (3, 80, 2)],
)
def test_generated_puzzles(box, clues, count):
    rng = np.random.default_rng(clues)
    for _ in range(count):
        puzzle, solution = generate(rng, box, clues)
        assert puzzle.dtype == solution.dtype == np.int8
        assert np.sum(puzzle > 0) == clues
        assert list(itertools.islice(brute(puzzle.tolist(), box), 2)) == [solution.tolist()]
        assert not contradicts(solution, box) and grids.check(puzzle, solution, box)


def test_generating_is_deterministic():
    a, b = (generate(np.random.default_rng(5), 3, 30) for _ in range(2))
    assert np.array_equal(a, b)
    rng = np.random.default_rng(5)
    first, second = generate(rng, 3, 30), generate(rng, 3, 30)
    assert np.array_equal(first, a) and not np.array_equal(second, a)
    puzzle = generate(np.random.default_rng(0), 2, 6)[0]
    assert np.array_equal(puzzle, grid("0200410000230010"))  # test sets must stay


def test_generating_errors(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(engine, "GENERATE_TRIES", 3)
    for box, clues, match in ((3, 17, "no puzzle with 17"), (3, 82, "0..81"), (4, 9, "box size 4")):
        with pytest.raises(SudokuError, match=match) as error:
            generate(rng, box, clues)
        assert "\n" not in str(error.value)
    for bad in (np.zeros(16), np.full(81, 10), np.full(81, -1), np.zeros((9, 9))):
        for function in (solve, count_solutions, difficulty):
            with pytest.raises(SudokuError):
                function(bad.astype(int), 3)


def test_difficulty():
    assert difficulty(grid(SOLVED), 3) == 0
    assert difficulty(grid(CLASSIC), 3) == 0
    hidden = "000000010400000000020000000000050407008000300001090000300400200050100000000806000"
    assert difficulty(grid(hidden), 3) == 1  # 17 clues
    inkala = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    assert difficulty(grid(inkala), 3) == 2
    assert difficulty(np.zeros(16, int), 2) == 2
    rng = np.random.default_rng(0)
    puzzles = [(2, generate(rng, 2, clues)[0]) for clues in (4, 5, 6) * 10]
    puzzles += [(3, generate(rng, 3, clues)[0]) for clues in (26, 30, 34, 38) * 5]
    levels = [(box, difficulty(puzzle, box)) for box, puzzle in puzzles]
    assert levels == [(box, rate(puzzle.tolist(), box)) for box, puzzle in puzzles]
    assert {(3, 0), (3, 1), (3, 2)} <= set(levels)


def test_text():
    puzzle = grid("3010" + "0" * 12)
    assert grids.prompt(puzzle) == "Solve the sudoku:\n3 0 1 0" + "\n0 0 0 0" * 3
    assert grids.pretty(puzzle) == "3 . | 1 .\n. . | . .\n----+----\n. . | . .\n. . | . ."
    lines = grids.pretty(grid(SOLVED)).split("\n")
    assert len(lines) == 11 and lines[3] == lines[7] == "------+-------+------"
    assert lines[10] == "3 4 5 | 2 8 6 | 1 7 9"
    for box, solution in ((2, generate(np.random.default_rng(0), 2, 9)[1]), (3, grid(SOLVED))):
        parsed = grids.parse(grids.render(solution), box)
        assert parsed.dtype == np.int8 and np.array_equal(parsed, solution)
        assert np.array_equal(grids.parse(f"\n{grids.render(solution)} \t", box), solution)


def test_parse_refuses_everything_else():
    good = "1 2 3 4 3 4 1 2 2 1 4 3 4 3 2 1"
    assert grids.parse(good, 2) is not None
    heads = "0|5|a|-1|+1|01|1.0|1,|_1|11|1 1||\u0661|\u00b2"  # the last two pass str.isdigit
    for head in heads.split("|"):
        assert grids.parse(head + good[1:], 2) is None, head
    for bad in (None, 3, b"1 2", "", " ", "<eos>", good + " 1", good + " the end", SOLVED):
        assert grids.parse(bad, 2) is None
    draw = random.Random(0)
    for _ in range(300):
        text = " ".join(chr(draw.choice((49, 50, draw.randrange(0x3000)))) for _ in range(16))
        assert grids.parse(text, 2) is None or set(text) <= set("1234 ")


@pytest.fixture
def pairs():
    rng = np.random.default_rng(3)
    puzzles, solutions = zip(*[generate(rng, 3, 35) for _ in range(12)], strict=True)
    return np.array(puzzles), np.array(solutions)


def same(read, pairs):
    return np.stack(read).dtype == np.int8 and np.array_equal(read, pairs)


def test_csv_round_trip(tmp_path, pairs, monkeypatch):
    path = tmp_path / "a.csv"
    grids.write_csv(path, *pairs)
    text = path.read_text()
    assert text.startswith("puzzle,solution\n") and text.count("\n") == 13
    assert same(grids.read_csv(path), pairs)
    assert same(grids.read_csv(path, limit=5), [part[:5] for part in pairs])
    small = [np.array([g]) for g in generate(np.random.default_rng(0), 2, 6)]
    grids.write_csv(path, *small)
    assert same(grids.read_csv(path, box=2), small)
    with pytest.raises(SudokuError, match="cannot pair"):
        grids.write_csv(path, pairs[0], pairs[1][:3])

    rows = [",".join(line.split(",")[::-1]) for line in text.split()]
    swapped = "".join(f"{i},{row},{'x' * i}\n" for i, row in enumerate(rows))
    swapped = swapped.replace("0,solution,puzzle,", "id,solution,puzzle,note", 1)
    variants = {
        "dots": "\n".join([text[:15], text[16:].replace("0", ".")]),
        "crlf": text.replace("\n", "\r\n"),
        "mark": "\ufeff" + text + "\n\n",
        "quotes": '"' + text[:-1].replace(",", '","').replace("\n", '"\n"') + '"\n',
        "open end": text.rstrip(),
        "columns": swapped,
    }
    for block in (1 << 22, 300):
        monkeypatch.setattr(grids, "BLOCK_BYTES", block)
        for name, variant in variants.items():
            path.write_bytes(variant.encode())
            assert same(grids.read_csv(path), pairs), (name, block)
    path.write_text(text + "1,2\n")
    assert same(grids.read_csv(path, limit=12), pairs)


def other_clue(line):
    at = next(i for i, digit in enumerate(line) if digit != "0")
    return line[:at] + str(int(line[at]) % 9 + 1) + line[at + 1 :]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s[1:], "puzzle has 80 characters: write all 81"),
        (lambda s: s + "1", "solution has 82 characters"),
        (lambda s: s[:4] + "x" + s[5:], "puzzle has 'x' at character 5: use 1-9, and 0 or ."),
        (lambda s: s[:-1] + "0", "solution has '0' at character 81: use 1-9 in every cell"),
        (lambda s: s + ",", "3 fields, but the header has 2"),
        (lambda s: "", "1 fields"),
        (lambda s: "\N{BLACK STAR}" + s[1:], "puzzle has 83 characters"),
        (lambda s: s[:82] + s[83] + s[83:], "solution repeats a digit"),
        (other_clue, "the clue at character .* differs from the solution"),
        (lambda s: "0" * 81 + s[81:], "more than one solution"),
    ],
)
@pytest.mark.parametrize("block", [1 << 22, 300])
def test_csv_rows_that_are_wrong(tmp_path, pairs, monkeypatch, change, match, block):
    monkeypatch.setattr(grids, "BLOCK_BYTES", block)
    path = tmp_path / "bad.csv"
    grids.write_csv(path, *pairs)
    lines = path.read_text().split("\n")
    lines[7] = change(lines[7])
    lines[9], lines[10] = other_clue(lines[9]), "1,2,3"  # only the first wrong row is named
    path.write_text("\n".join(lines))
    match = rf"bad\.csv: data row 7 \(file line 8\): .*{match}"
    with pytest.raises(SudokuError, match=match) as error:
        grids.read_csv(path)
    assert "\n" not in str(error.value)
    assert len(grids.read_csv(path, limit=6)[0]) == 6
    if "more than one" in match:
        assert len(grids.read_csv(path, limit=8, check_unique=False)[0]) == 8


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot be read: No such file"),
        ("", "no column puzzle and no column solution in an empty first line"),
        ("puzzle,solution\n\n", "no data rows"),
        ("quizzes,solution\n", "no column puzzle in the header 'quizzes,solution'"),
        (f"{CLASSIC},{SOLVED}\n", "no column puzzle and no column solution in the header"),
    ],
)
def test_csv_files_that_are_wrong(tmp_path, text, match):
    path = tmp_path / "bad.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SudokuError, match=rf"bad\.csv: {match}") as error:
        grids.read_csv(path)
    assert "\n" not in str(error.value)
