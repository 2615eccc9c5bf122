"""The layouts in which other programs write puzzles, and the texts in which none is found."""

import json

import numpy as np
import pytest

from data.sudoku.engine import SudokuError
from data.sudoku.grids import digits, pretty
from data.sudoku.puzzle_file import parse_puzzles
from tests.data.sudoku.puzzles import draw

PUZZLES, SOLUTIONS = draw(3, 3, 30, 40, seed=1)
P, S = ([digits(grid) for grid in grids] for grids in (PUZZLES, SOLUTIONS))
DOTS = [text.replace("0", ".") for text in P]
SPARSE = P[0][:9] + "0" * 9 + P[0][18:]


def table(form, header=""):
    """A line for each puzzle, of a form with {p} for it, {d} for dots, {s} for its solution."""
    rows = zip(P, DOTS, S, strict=True)
    lines = [form.format(p=p, d=d, s=s, n=n) for n, (p, d, s) in enumerate(rows)]
    return "\n".join([header, *lines] if header else lines)


def rows_of(text):
    """The nine rows of a grid."""
    return [text[at : at + 9] for at in range(0, 81, 9)]


def drawn(left, middle, right, rule, blank, top=""):
    """Grids as .ss files have them, with signs around the cells, and titles before each."""
    text = []
    for number, puzzle in enumerate(DOTS, 1):
        text += [f"Grid {number:02d}", *([top] if top else [])]
        for row in range(9):
            cells = puzzle[row * 9 : row * 9 + 9].replace(".", blank)
            text.append(left + middle.join(cells[at : at + 3] for at in (0, 3, 6)) + right)
            if row in (2, 5):
                text.append(rule)
        text += [top, ""]
    return "\n".join(text)


TABLES = {
    "columns puzzle and solution": table("{p},{s}", "puzzle,solution"),
    "columns quizzes and solutions": table("{p},{s}", "quizzes,solutions"),
    "columns question and answer (of 4)": table(
        '"a, ""b"" of c",{d},{s},{n}', "source,question,answer,rating"
    ),
    "columns Puzzle and Solution": table('"{p}" , "{s}"', '"Puzzle" , " Solution "'),
    "columns Puzzle and Solution (of 3)": table("{n}\t{s}\t{d}", "ID\tSolution\tPuzzle"),
    "columns SUDOKU and solved": table("{p};{s}", "SUDOKU;solved"),
    "columns start and end (of 3)": table("{n},{s},{p}", "id,end,start"),
    "columns puzzle and solution (of 4)": table("{p},{s},{s},1", "puzzle,solution,answer_x,exact"),
    "columns 1 and 2": table("{d},{s}"),
    "columns 1 and 2, middle dots": table("{d},{s}").replace(".", "\u00b7"),
    "columns 2 and 1": table("{s} {p}"),
    "columns puzzle and solution, with a comma": table("{p},{s},", "puzzle,solution"),
    "columns puzzle and solution, with rules": table("| {p} | {s} |", "|puzzle|solution|\n|-|:-:|"),
    "columns puzzle and solution, 1 line of other text left out": table(
        "{p};{s}", "sep=;\npuzzle;solution"
    ),
    "columns puzzle and solution, 2 lines of other text left out": table(
        "{p},{s}", "My puzzles\n\nhttps://example.org 2026-11-26 19:20\npuzzle,solution"
    ),
    "columns 1 and 2, with colons": table("{p}:{s}"),
    "columns puzzle and solution, with several lines in a field": "puzzle,solution\n"
    + "\n".join(
        '"' + "\n".join(rows_of(p)) + '","' + "\n".join(rows_of(s)) + '"'
        for p, s in zip(P, S, strict=True)
    ),
    "columns question and answer (of 4), JSON": "\n".join(
        json.dumps({"id": 1, "question": p, "answer": s, "n": None})
        for p, s in zip(DOTS, S, strict=True)
    ),
    "columns puzzle and solution, a JSON array of lists": json.dumps(
        [
            {"puzzle": [[*map(int, row)] for row in rows_of(p)], "solution": s}
            for p, s in zip(P, S, strict=True)
        ],
        indent=1,
    ),
    "one in each line, solutions below": "\n".join(
        line for pair in zip(DOTS, S, strict=True) for line in pair
    ),
    "drawn as grids of 9 lines, solutions below": "\n\n".join(
        pretty(grid) for pair in zip(PUZZLES, SOLUTIONS, strict=True) for grid in pair
    ),
}
ALONE = {
    "column Question": table("{d}", "Question"),
    "column 2 (of 3)": table("0000183b305c {p} 1.2"),
    "one in each line": "\ufeff" + table("{d}", "#A comment"),
    "one in each line, with spaces": "\n".join(" ".join(p) for p in P),
    "one in each line, with commas": "\n".join(",".join(p) for p in P),
    "one in each line, as a list": "\n".join(f"[{', '.join(p)}]," for p in P),
    **{f"one in each line, {b}": "\n".join(p.replace("0", b) for p in P) for b in "*_?xX-·□"},
    "one in each line, with nothing": "\n".join(",".join(p).replace("0", "") for p in P),
    "one in each line, with names": "\n".join(
        [",".join(f"r{i}" for i in range(81)), *(",".join(p) for p in P)]
    ),
    "one in each line, full width": "\n".join(DOTS).translate(
        {ord("0") + d: 0xFF10 + d for d in range(10)}
    ),
    "column puzzle, a JSON array of texts": json.dumps(DOTS),
    "drawn as grids of 9 lines, no-break spaces": "\n".join(
        "\u00a0".join(row) for p in P for row in rows_of(p)
    ),
    **{
        f"drawn as grids of 9 lines, {blank!r} between {sign!r}": "\n".join(
            f"{edge}{sign.join(row).replace('0', blank)}{edge}" for p in P for row in rows_of(p)
        )
        for blank, sign, edge in (("", ",", ""), ("", "\t", ""), (" ", "|", "|"))
    },
    "drawn as grids of 9 lines, 3 lines of other text left out   ": "".join(
        f"# by me\n[Puzzle]\n{pretty(p)}\n" for p in PUZZLES
    ),
    "drawn as grids of 9 lines, 39 lines of other text left out": "\n".join(
        f"[Puzzle]\n{pretty(puzzle)}\n[State]\n{pretty(solution)}"
        for puzzle, solution in zip(PUZZLES, SOLUTIONS, strict=True)
    ),
    "drawn as grids of 9 lines": "\n\n".join(map(pretty, PUZZLES)),
    "drawn as grids of 9 lines, 3 lines of other text left out": drawn(
        "|", "|", "|", "|---+---+---|", ".", "*-----------*"
    ),
    "drawn as grids of 9 lines, 3 lines of other text left out ": drawn("", "", "", "", "0"),
    "drawn as grids of 9 lines, 3 lines of other text left out  ": drawn(
        "* ", " * ", " *", "*===*===*===*", "_"
    ).replace("*", "\N{BOX DRAWINGS DOUBLE VERTICAL}"),
    "drawn as grids of 9 lines, with a fence": f"```\n{pretty(PUZZLES[0])}\n```\n"
    + "\n".join(map(pretty, PUZZLES[1:])),
}


@pytest.mark.parametrize("layout", [*TABLES, *ALONE])
def test_layouts(layout):
    text = (TABLES | ALONE)[layout]
    found = parse_puzzles(text.splitlines(keepends=True), "f", box=None)
    assert found.box == 3
    assert np.array_equal(found.puzzles, PUZZLES) and np.array_equal(found.solutions, SOLUTIONS)
    given = "given" if layout in TABLES else "found by the solver"
    title, *others = layout.strip().split(", ")
    left_out = "".join(f", {text}" for text in others if "left out" in text)
    assert (
        found.story == f"f: 3 puzzles, {title}, solutions {given}, each with one solution{left_out}"
    )


FIRST_ROWS_WITHOUT = {
    "commas": "{0},\n{1},\n{2},{s}",
    "semicolons": "{0};\n{1};\n{2};{s}",
    "tabs": "{0}\t\n{1}\t\n{2}\t{s}",
    "bars": "|{0}||\n|{1}||\n|{2}|{s}|",
    "colons": "{0}:\n{1}:\n{2}:{s}",
    "a header": "puzzle;solution\n{0};\n{1};\n{2};{s}",
    "a header and an empty row": "puzzle,solution\n,\n{0},\n{1},\n{2},{s}",
    "unknown names": "q;a\n{0};\n{1};\n{2};{s}",
    "JSON": '{{"puzzle": "{0}"}}\n{{"puzzle": "{1}"}}\n{{"puzzle": "{2}", "solution": "{s}"}}',
    "JSON, nulls": '[{{"puzzle": null, "solution": null}}, {{"puzzle": "{0}"}}, '
    '{{"puzzle": "{1}"}}, {{"puzzle": "{2}", "solution": "{s}"}}]',
}


@pytest.mark.parametrize("form", FIRST_ROWS_WITHOUT)
def test_the_first_rows_may_lack_a_solution(form):
    text = FIRST_ROWS_WITHOUT[form].format(*P, s=S[2])
    found = parse_puzzles(text.splitlines(), "f", box=None)
    assert np.array_equal(found.puzzles, PUZZLES) and "1 of 3 solutions given" in found.story
    with pytest.raises(SudokuError, match=r"data row 3 .*differs from the solution"):
        parse_puzzles(FIRST_ROWS_WITHOUT[form].format(*P, s=S[1]).splitlines(), "f")


@pytest.mark.parametrize(("sign", "edge"), [("\t", ""), ("|", "|"), (" | ", "| ")])
@pytest.mark.parametrize("empty", range(9))
def test_an_empty_row_of_a_grid(sign, edge, empty):
    rows = [list(row) for row in rows_of(P[0])]
    rows[empty] = ["0"] * 9

    def lines(rows):
        blank = " " if " " in sign else ""
        return [edge + sign.join(row).replace("0", blank) + edge[::-1] for row in rows]

    def read(lines):
        found = parse_puzzles(lines, "f", check_unique=False).puzzles
        return [digits(puzzle) for puzzle in found]

    expected, others = "".join(map("".join, rows)), [*map(list, rows_of(P[1]))]
    assert read(lines(rows)) == [expected]
    if edge:
        heading = [lines([["0"] * 9])[0], "|---" * 9 + "|"]
        assert read([*heading, *lines(rows)]) == [expected]
    if empty:
        assert read([*lines(rows), *lines(others)]) == [expected, P[1]]
        return
    # An empty row above a grid may be a gap between grids.
    assert read([*lines(others), *lines(rows[:1]), *lines(others)]) == [P[1], P[1]]
    with pytest.raises(SudokuError, match="or a gap above it: write 0 for each empty cell"):
        read([*lines(rows), *lines(others)])


def test_an_array_of_a_program():
    rows = ", \n".join(f"[{', '.join(row)}]" for row in rows_of(P[0]))
    text = f"board = [{rows}]\nother = np.array([{rows}])\n"
    found = parse_puzzles(text.splitlines(), "f")
    assert [digits(puzzle) for puzzle in found.puzzles] == [P[0], P[0]]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (".-------.-------.-------.", "| "),
        ("o-------o-------o-------o", "| "),
        ("_" * 25, "| "),
        ("~" * 11, ""),
        ("*" * 21, ""),
    ],
)
def test_rules_between_rows(rule, left):
    rows = [left + " ".join(row) for row in rows_of(DOTS[0])]
    lines = [rule, *rows[:3], rule, *rows[3:6], rule, *rows[6:], rule]
    assert [digits(p) for p in parse_puzzles(lines, "f").puzzles] == P[:1]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("\n".join(",".join(row).replace("0", "") + "," for p in P for row in rows_of(p)), 3),
        (json.dumps([list(pair) for pair in zip(P, S, strict=True)]), 3),
        (json.dumps({"puzzle": [[int(c) or None for c in row] for row in rows_of(P[0])]}), 1),
        (f'// by me\n{{"puzzle": "{P[0]}"}}', 1),
        (f"puzzle\tsolution\n{P[0]}\t{S[0]}\n\t\n", 1),
        (f"puzzle,solution\n{P[0]},{S[0]}\n,\n", 1),
    ],
)
def test_other_forms(text, count):
    found = parse_puzzles(text.splitlines(), "f")
    assert [digits(puzzle) for puzzle in found.puzzles] == P[:count]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"puzzles": [{"puzzle": P[0]}, {"puzzle": P[1]}]}, "line 1: 'puzzles' is not one grid"),
        ({"puzzle": P, "solution": S}, "line 1: 'puzzle' is not one grid"),
        ([[[0] * 9] * 9] * 2, "no puzzle is found"),
        ({"train": [{"puzzle": P[0]}]}, "no puzzle is found"),
    ],
)
def test_other_json_is_told_what_is_read(value, reason):
    with pytest.raises(SudokuError, match=f'{reason}.*: of JSON, give objects such as {{"puzzle":'):
        parse_puzzles([json.dumps(value)], "f")


def test_comments_alone_are_no_empty_text():
    with pytest.raises(SudokuError, match="the text is empty, or comments alone"):
        parse_puzzles(["# one", "# two"], "f")


def test_a_solution_stands_directly_below_its_puzzle():
    def read(*grids):
        found = parse_puzzles(grids, "f", check_unique=False)
        return len(found.puzzles), found.story.split(", ", 2)[2]

    story = "1 of 2 solutions given, the others found by the solver, 1 without an empty cell, "
    assert read(DOTS[0], S[0], S[1]) == (2, f"{story}each with one solution")
    assert read(DOTS[0], DOTS[1], S[0])[0] == 3
    assert read(S[0], S[0])[0] == 2
    assert read(*[DOTS[0].replace(".", "\u00b7")] * 2)[0] == 2
    at = P[0].index("0")
    wrong = f"{S[0][:at]}{int(S[0][at]) % 9 + 1}{S[0][at + 1 :]}"
    with pytest.raises(SudokuError, match=r"data row 1 .file line 1.: solution repeats a digit"):
        parse_puzzles([DOTS[0], wrong], "f")


def test_a_line_of_dashes_is_a_row_beside_other_dashes():
    rows = rows_of(SPARSE)
    assert rows[1] == "0" * 9
    for left, right in (("", ""), ("|", "|")):
        lines = [left + row.replace("0", "-") + right for row in rows]
        lines[6:6] = lines[3:3] = ["-----------"]
        found = parse_puzzles(lines, "f", check_unique=False)
        assert digits(found.puzzles[0]) == SPARSE
    rows = [*rows[1:2], *rows[:1], *rows[2:]]
    with pytest.raises(SudokuError, match="8 rows: draw all 9, and dots in an empty row, because"):
        parse_puzzles([row.replace("0", "-") for row in rows], "f")


@pytest.mark.parametrize(("header", "write"), [("", digits), ("puzzle", digits), ("", pretty)])
def test_4x4_puzzles_are_told_apart(header, write):
    puzzles, solutions = draw(2, 4, 6, 6)
    text = "\n".join([header, *map(write, puzzles)])
    found = parse_puzzles(text.splitlines(), "f", box=None)
    assert found.box == 2 and np.array_equal(found.puzzles, puzzles)
    assert np.array_equal(found.solutions, solutions)


def test_a_prompt_of_the_task_is_a_grid_with_a_title():
    text = "Solve the sudoku:\n" + "\n".join(" ".join(P[0][i : i + 9]) for i in range(0, 81, 9))
    found = parse_puzzles(text.splitlines(), "f", box=None)
    assert np.array_equal(found.puzzles, PUZZLES[:1])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"{P[0]},{P[1]}", "2 columns hold grids with empty cells in the first rows: name a col"),
        (f"a,b\n{P[0][1:]},{S[0]}", "0 columns hold grids with empty cells in the first rows"),
        (f"{P[0]},{S[0]},{S[0]}", "2 columns hold full grids: name one of them solution"),
        ("47136##5#\n", "'#' is neither a digit nor an empty cell: give a table"),
        (P[0].replace("0", "\u2605"), r"'\u2605' \(U\+2605\) is neither a digit nor an empty cell"),
        ('{"a": "b"}\n{"a": ', "line 2: not JSON: Expecting value"),
        (f'[{{"puzzle": "{P[0]}"}},', "the array of puzzles is not closed"),
        (
            '{"messages": [{"role": "user"}]}',
            "no puzzle is found; the text begins with '{\"messages",
        ),
        (f"id,grid\n0,{P[0][1:]}\n1,{P[1]}\n", "row 1 .file line 2.: puzzle has 80 characters"),
        ("I have a question\nand no puzzle", "no puzzle is found; the text begins with 'I have a"),
        ("\x1b[31m" + "x" * 90, r"begins with '\ufffd\[31mx{35}\.\.\.' \(94 characters\): give"),
    ],
)
def test_texts_that_cannot_be_told(text, match):
    with pytest.raises(SudokuError, match=match) as error:
        parse_puzzles(text.splitlines(), "f", box=None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: rows[:8], "grid 1 .file line 8.: the grid has 8 rows: draw all 9"),
        (lambda rows: [*rows, *rows[:4], "Grid 2"], "only 4 rows before it"),
        (lambda rows: [*rows, rows[0][1:]], "grid 2 .file line 10.: '.*' is not a row of 9 cells"),
        (lambda rows: [*rows[:2], "4 56 23 | 1 7 8 | 9 9 9"], "is not a row of 9 cells"),
        (lambda rows: [*rows[:2], "5,,0,0,0,1,2,3,4"], "'5,,0,.* is not a row of 9 cells, and"),
        (lambda rows: [*rows[:2], "12345678a"], "line 3.: '12345678a' is not a row"),
    ],
)
def test_grids_that_are_wrong(change, match):
    rows = [P[0][i : i + 9] for i in range(0, 81, 9)]
    with pytest.raises(SudokuError, match=match):
        parse_puzzles(change(rows), "f")


def test_an_open_quotation_mark_is_one_line():
    text = table('{p},{s},"note', "puzzle,solution,note") + "\n" + "x" * 140_000
    with pytest.raises(SudokuError, match="is a quotation mark missing") as error:
        parse_puzzles(text.splitlines(), "f")
    assert "\n" not in str(error.value)
