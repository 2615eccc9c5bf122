"""Grids as text, the rules of Sudoku, and answers compared with solutions."""

import json
import random
import re

import numpy as np
import pytest

from data.sudoku import grids
from data.sudoku.engine import count_solutions, generate
from data.sudoku.grids import check, compare, is_valid_solution
from tests.data.sudoku.puzzles import SOLVED, grid

SOLUTION = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]
OTHER = [1, 2, 3, 4, 3, 4, 1, 2, 4, 3, 2, 1, 2, 1, 4, 3]  # valid too
PUZZLE = [1, 0, 3, 4, 0, 4, 1, 2, 2, 1, 0, 3, 4, 3, 2, 0]  # four empty cells


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


FULL = [list("1234"), list("3412"), list("2143"), list("4321")]
JOINED = "1234341221434321"
FORMATS = {
    "as trained": "1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1",
    "in a row": JOINED,
    "a line before it": f"The solution is:\n\n{JOINED}",
    "in a sentence": f"The solution is {JOINED}.",
    "behind a colon": "Solution: 1 2 3 4 3 4 1 2 2 1 4 3 4 3 2 1",
    "bold": f"**{JOINED}**",
    "rows": "\n".join(map("".join, FULL)),
    "a fence": "Here it is.\n```text\n1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1\n```\nIs it right?",
    "rules": "1 2 | 3 4\n3 4 | 1 2\n----+----\n2 1 | 4 3\n4 3 | 2 1",
    "a frame": "+-----+\n|12|34|\n|34|12|\n+--+--+\n|21|43|\n|43|21|\n+-----+",
    "commas": "\n".join(map(", ".join, FULL)),
    "a list": repr([[int(c) for c in row] for row in FULL]),
    "JSON": '{"grid": [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]}',
    "Markdown": "| | | | |\n|:-:|:-:|:-:|:-:|\n" + "\n".join(f"| {' | '.join(r)} |" for r in FULL),
    "Markdown, first row as header": "|1|2|3|4|\n|-|-|-|-|\n|3|4|1|2|\n|2|1|4|3|\n|4|3|2|1|",
    "LaTeX": "$$\\begin{array}{cc}\n" + " \\\\\n".join(map(" & ".join, FULL)) + "\n\\end{array}$$",
    "after the puzzle": f"1 0 3 4\n0 4 1 2\n2 1 0 3\n4 3 2 0\n\n{JOINED}",
    "right after a puzzle with dots": f"1 . 3 4\n. 4 1 2\n2 1 . 3\n4 3 2 .\n\n{JOINED}",
    "after a puzzle with dots": f"12|..\n34|1.\n21|43\n43|21\nis solved:\n{JOINED}",
    "after another grid": f"{'4' * 16}\nNo, I was wrong. It is\n{JOINED}",
    "right after another grid": "4 4 4 4\n" * 4 + "\n" + "\n".join(map(" ".join, FULL)),
    "twice": f"{JOINED}\n{JOINED}",
    "labels": "\n".join(f"- **Row {i}:** {' '.join(row)}" for i, row in enumerate(FULL, 1)),
    "letters as labels": "  1 2  3 4\n"
    + "\n".join(
        f"{a} {' '.join(r[:2])}  {' '.join(r[2:])}" for a, r in zip("ABCD", FULL, strict=True)
    ),
    "numbers as labels": "\n".join(f"{i}. {''.join(row)}" for i, row in enumerate(FULL, 1)),
    "bars as ends of labels": "\n".join(f"{i} | {' '.join(r)}" for i, r in enumerate(FULL, 1)),
    "a full stop": "\n".join(map("".join, FULL)) + ".",
    "Markdown, numbers as header": "|1|2|3|4|\n|-|-|-|-|\n"
    + "\n".join(f"|{'|'.join(r)}|" for r in FULL),
    "LaTeX in one line": "$\\begin{array}{|cc|cc|} \\hline "
    + " \\\\ \\hline ".join(map(" & ".join, FULL))
    + "\\end{array}$",
    "LaTeX with lines": " \\\\ \\hline\n".join(map(" & ".join, FULL)),
    "HTML": "<table>"
    + "".join(f'<tr class="r1"><td>{"</td><td>".join(r)}</td></tr>' for r in FULL)
    + "</table>",
    "words as labels": "\n".join(
        f"{w} row: {' '.join(r)}"
        for w, r in zip(("First", "Second", "Third", "Last"), FULL, strict=True)
    ),
    "arrows": "\n".join(f"Row {i} -> {' '.join(row)}" for i, row in enumerate(FULL, 1)),
    "assignments": "\n".join(f"r{i} = [{', '.join(row)}]" for i, row in enumerate(FULL, 1)),
    "JSON, a field for each row": json.dumps({f"row_{i}": r for i, r in enumerate(FULL, 1)}),
    "JSON, a line for each row": json.dumps(
        {f"R{i}": "".join(r) for i, r in enumerate(FULL, 1)}, indent=1
    ),
    "JSON, numbers of rows": "{"
    + ",\n".join(f'"{i}": [{", ".join(r)}]' for i, r in enumerate(FULL, 1))
    + "}",
    "JSON with another field": '{"grid": [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]], '
    '"difficulty": "easy", "steps": 50}',
    "comments": "grid = [\n" + "\n".join(f"  [{', '.join(r)}],  # a row" for r in FULL) + "\n]",
    "italic digits": "\n".join(f"_{a}_ {b} _{c}_ _{d}_" for a, b, c, d in FULL),
    "after a number": "In 3:45\n" + "\n".join(map("".join, FULL)),
}
NO_GRIDS = {
    "a puzzle": "1 0 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1",
    "a puzzle with dots": "1 . 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1",
    "a puzzle with dashes": "1 - 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1",
    "a part": "1 2 3 4\n3 4 1 2\n2 1 4 3",
    "two parts": "1 2 3 4\n3 4 1 2\nand then\n2 1 4 3\n4 3 2 1",
    "one digit more": f"{JOINED}1",
    "one digit more in a row": "1 2 3 4\n3 4 1 2 4\n2 1 4 3\n4 3 2 1",
    "a labelled puzzle": "A: 1 . 3 4\nB: 3 4 1 2\nC: 2 1 4 3\nD: 4 3 2 1",
    "a puzzle of three groups": "_1_ _2_ _3_\n" * 4,
    "a puzzle with labels": "r1 = [1, _, 3, 4]\nr2 = [3, 4, 1, 2]\n"
    "r3 = [2, 1, 4, 3]\nr4 = [4, 3, 2, 1]",
    "row by row": "First 1 2 3 4\nThen I see 3 4 1 2\nThen 2 1 4 3\nThen 4 3 2 1",
    "numbers": "There are 12 to 34 ways.",
    "a larger digit": JOINED.replace("4", "5"),
    "other digits": "\u0661" * 16,
    "nothing": "",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_grid_is_found_in_any_format(name):
    found = grids.find_grid(FORMATS[name], 2)
    assert found.dtype == np.int8 and found.tolist() == SOLUTION
    # A grid with a cell less is none.
    without = re.sub("1(?=[^1]*$)", "", FORMATS[name])
    other = grids.find_grid(without, 2)
    assert other is None or other.tolist() != SOLUTION


@pytest.mark.parametrize("name", FORMATS)
def test_a_wrong_grid_is_never_right(name):
    text = FORMATS[name]
    for digit in "1234":
        at = text.rindex(digit)
        for other in (*"012345._?-x", " ", "", "12", f"{digit}{digit}"):
            if other != digit and name != "twice":
                found = grids.find_grid(text[:at] + other + text[at + 1 :], 2)
                assert found is None or found.tolist() != SOLUTION, (digit, other)


def test_a_footnote_is_no_part_of_a_grid():
    assert grids.find_grid(f"{FORMATS['as trained']}\n[1]", 2).tolist() == SOLUTION
    assert grids.find_grid("1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2\n[1]", 2) is None


@pytest.mark.parametrize("name", NO_GRIDS)
def test_what_is_no_full_grid_is_not_found(name):
    assert grids.find_grid(NO_GRIDS[name], 2) is None


def test_what_is_parsed_strictly_is_also_found():
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(
            draw.choice(" \n\t") * draw.randint(1, 3) + draw.choice("1234") for _ in range(16)
        )
        assert np.array_equal(grids.parse(text, 2), grids.find_grid(text, 2))
    assert grids.find_grid(grids.pretty(grid(SOLVED)), 3).tolist() == grid(SOLVED).tolist()
    assert grids.find_grid(SOLVED, 2) is None


def test_validity_agrees_with_the_engine():
    solution = generate(np.random.default_rng(0), 3, 40)[1]
    assert is_valid_solution(solution, 3)
    for cell in range(81):
        for digit in {-1, 0, 10, solution[cell] % 9 + 1}:
            wrong = solution.copy()
            wrong[cell] = digit
            assert not is_valid_solution(wrong, 3)
    latin = [(row + col) % 9 + 1 for row in range(9) for col in range(9)]  # only the boxes fail
    lines = [(row // 3 + col // 3 * 3) % 9 for row in range(9) for col in range(9)]
    assert not any(is_valid_solution(g, 3) for g in (latin, lines, [1] * 81, "1" * 81, None))
    assert not is_valid_solution(solution[:80], 3)
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(300):
        full = generate(rng, 2, 16)[1]
        a, b = rng.integers(16, size=2)
        full[[a, b]] = full[[b, a]]
        outcomes.append(is_valid_solution(full, 2))
        assert outcomes[-1] == (count_solutions(full, 2) == 1)
    assert 20 < sum(outcomes) < 280


def test_check_wants_the_clues_kept():
    puzzle, solution = generate(np.random.default_rng(0), 3, 40)
    assert check(puzzle, solution, 3)
    assert not check(puzzle, solution % 9 + 1, 3)
    assert not check(puzzle, puzzle, 3)


def measure(prediction, puzzle=PUZZLE):
    one = compare([puzzle], [SOLUTION], [prediction])
    return {name: value[0] for name, value in one.items()}


def test_a_right_answer():
    assert measure(SOLUTION) == {
        "exact": True,
        "valid": True,
        "clues_kept": True,
        "cells_right": 1.0,
        "cells_right_all": 1.0,
    }


def test_an_unparseable_answer():
    for puzzle in (PUZZLE, [0] * 16, SOLUTION):
        assert not any(measure([-1] * 16, puzzle).values())


def test_one_wrong_cell():
    wrong = [*SOLUTION[:-1], 2]  # an empty cell of the puzzle
    expected = (False, False, True, 3 / 4, 15 / 16)
    assert tuple(measure(wrong).values()) == expected
    wrong = [2, *SOLUTION[1:]]  # a clue
    expected = (False, False, False, 1.0, 15 / 16)
    assert tuple(measure(wrong).values()) == expected


def test_another_grid_is_valid_but_not_right():
    result = measure(OTHER)
    assert result["valid"] and not result["exact"] and not result["clues_kept"]
    assert result["cells_right_all"] == 1 / 2
    assert measure(OTHER, [0] * 16)["clues_kept"]


def test_no_empty_cell_counts_all():
    assert measure([*SOLUTION[:-1], 2], SOLUTION)["cells_right"] == 15 / 16


def test_puzzles_are_measured_apart():
    grids = np.array([SOLUTION, OTHER, [-1] * 16, SOLUTION], np.int8)
    result = compare([PUZZLE] * 4, [SOLUTION] * 4, grids)
    assert result["exact"].tolist() == [True, False, False, True]
    assert result["valid"].tolist() == [True, True, False, True]
    assert {name: value.shape for name, value in result.items()} == dict.fromkeys(result, (4,))
    assert result["exact"].dtype == result["valid"].dtype == result["clues_kept"].dtype == bool


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="one shape"):
        compare([PUZZLE], [SOLUTION], [SOLUTION, SOLUTION])
    with pytest.raises(ValueError, match="one shape"):
        compare(PUZZLE, SOLUTION, SOLUTION)
