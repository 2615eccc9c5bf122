"""The layouts in which other programs write puzzles, and the texts in which none is found."""

import numpy as np
import pytest

from data.sudoku.engine import SudokuError
from data.sudoku.grids import digits, pretty
from data.sudoku.puzzle_file import parse_puzzles
from data.sudoku.puzzle_text import find_layout
from tests.data.sudoku.puzzles import draw

PUZZLES, SOLUTIONS = draw(3, 3, 30, 40, seed=1)
P, S = ([digits(grid) for grid in grids] for grids in (PUZZLES, SOLUTIONS))
DOTS = [text.replace("0", ".") for text in P]


def table(form, header=""):
    """A line for each puzzle, of a form with {p} for it, {d} for dots, {s} for its solution."""
    rows = zip(P, DOTS, S, strict=True)
    lines = [form.format(p=p, d=d, s=s, n=n) for n, (p, d, s) in enumerate(rows)]
    return "\n".join([header, *lines] if header else lines)


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
    "columns 2 and 1": table("{s} {p}"),
}
ALONE = {
    "column Question": table("{d}", "Question"),
    "column 2 (of 3)": table("0000183b305c {p} 1.2"),
    "one in each line": "\ufeff" + table("{d}", "#A comment"),
    "one in each line, with spaces": "\n".join(" ".join(p) for p in P),
    "one in each line, with commas": "\n".join(",".join(p) for p in P),
    "one in each line, as a list": "\n".join(f"[{', '.join(p)}]," for p in P),
    **{f"one in each line, {b}": "\n".join(p.replace("0", b) for p in P) for b in "*_?xX-"},
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
    assert found.story == f"f: 3 puzzles, {title}, solutions {given}, all unique{left_out}"


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
        (f"{P[0]},{P[1]}", "2 columns hold grids with empty cells in the first row: name a column"),
        (f"a,b\n{P[0][1:]},{S[0]}", "0 columns hold grids with empty cells in the first row: name"),
        (f"{P[0]},{S[0]},{S[0]}", "2 columns hold full grids: name one of them solution"),
        ("I have a question\nand no puzzle", "no puzzle is found; the text begins 'I have a"),
        ("\x1b[31m" + "x" * 90, r"begins '\ufffd\[31mx{35}\.\.\.' \(94 characters\): give a table"),
    ],
)
def test_texts_that_cannot_be_told(text, match):
    with pytest.raises(SudokuError, match=match) as error:
        find_layout(text.splitlines())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: rows[:8], "grid 1 .file line 8.: the grid has 8 rows: draw all 9"),
        (lambda rows: [*rows, *rows[:4], "Grid 2"], "only 4 rows before it"),
        (lambda rows: [*rows, rows[0][1:]], "grid 2 .file line 10.: '.*' is not a row of 9 cells"),
        (lambda rows: [*rows[:2], "4 56 23 | 1 7 8 | 9 9 9"], "is not a row of 9 cells"),
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
