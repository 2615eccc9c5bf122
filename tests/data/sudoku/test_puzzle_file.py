"""Files of puzzles: checked rows, the solver's solutions, and every file that is refused."""

import codecs
import gc
import sys

import numpy as np
import pytest

from data.sudoku import puzzle_file
from data.sudoku.engine import SudokuError
from data.sudoku.grids import digits
from data.sudoku.puzzle_file import parse_puzzles, read_puzzles, write_csv
from tests.data.sudoku.puzzles import CLASSIC, SOLVED, draw, grid


@pytest.fixture(scope="module")
def pairs():
    return draw(3, 12, 35, 35, seed=3)


def same(found, pairs):
    """Whether these are the puzzles and the solutions that were read."""
    kinds = {array.dtype for array in found[:2]}
    return kinds == {np.dtype(np.int8)} and np.array_equal(found[:2], pairs)


def test_csv_round_trip(tmp_path, pairs):
    path = tmp_path / "a.csv"
    write_csv(path, *pairs)
    text = path.read_text()
    assert text.startswith("puzzle,solution\n") and text.count("\n") == 13
    found = read_puzzles(path)
    assert same(found, pairs) and found.counts.tolist() == [1] * 12 and found.box == 3
    assert found.story == (
        f"{path}: 12 puzzles, columns puzzle and solution, solutions given, each with one solution"
    )
    some = read_puzzles(path, limit=5)
    assert same(some, [part[:5] for part in pairs]) and ": the first 5 puzzles, " in some.story
    assert ": the first puzzle, " in read_puzzles(path, limit=1).story
    small = draw(2, 2, 6, 6)
    write_csv(path, *small)
    assert same(read_puzzles(path, box=2), small)
    with pytest.raises(SudokuError, match="cannot pair"):
        write_csv(path, pairs[0], pairs[1][:3])


def test_a_limit_leaves_the_rest_of_the_file_without_a_complaint(tmp_path, pairs, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    path = tmp_path / "long.csv"
    write_csv(path, *(np.tile(part, (100, 1)) for part in pairs))
    assert len(read_puzzles(path, limit=1).puzzles) == 1
    gc.collect()
    assert raised == []


def test_encodings_and_line_ends(tmp_path, pairs, monkeypatch):
    path = tmp_path / "a.csv"
    write_csv(path, *pairs)
    text = path.read_text()
    variants = {
        "crlf": text.replace("\n", "\r\n").encode(),
        "mark": codecs.BOM_UTF8 + text.encode(),
        "wide": text.encode("utf-16"),
        "blank lines": text.replace("\n", "\n\n \n").encode(),
        "comments": f"# by me\n\n{text}# the end".encode(),
        "open end": text.rstrip().encode(),
        "other encoding": text.replace("solution", "solution,\xe9").encode("latin-1"),
    }
    variants["other encoding"] = variants["other encoding"].replace(b"\n", b",\xe9\n")[2:]
    variants["other encoding"] = b"pu" + variants["other encoding"].replace(b"\xe9,\xe9", b"\xe9")
    for chunk in (20_000, 5):
        monkeypatch.setattr(puzzle_file, "CHUNK", chunk)
        for name, variant in variants.items():
            path.write_bytes(variant)
            assert same(read_puzzles(path), pairs), (name, chunk)
    path.write_text(text + "1,2\n")
    assert same(read_puzzles(path, limit=12), pairs)


def test_the_solver_gives_solutions_that_a_file_lacks(pairs):
    lines = [digits(puzzle) for puzzle in pairs[0]]
    found = parse_puzzles(lines, "mine.sdm")
    assert same(found, pairs)
    assert found.story == (
        "mine.sdm: 12 puzzles, one in each line, solutions found by the solver, "
        "each with one solution"
    )
    several, none = "." * 81, "55" + CLASSIC[2:]
    for line, fault in ((several, "more than one solution"), (none, "no solution")):
        with pytest.raises(SudokuError, match=rf"^x: data row 3 \(file line 3\): .*{fault}"):
            parse_puzzles([*lines[:2], line], "x")
    told = parse_puzzles([CLASSIC, several, none], "x", check_unique=False)
    assert told.counts.tolist() == [1, 2, 0]
    assert np.array_equal(told.solutions[0], grid(SOLVED)) and not told.solutions[2].any()
    assert told.story.endswith(", 1 without a solution, 1 with several solutions")


def test_a_row_may_lack_its_solution(pairs):
    lines = [f"{digits(p)},{digits(s)}" for p, s in zip(*pairs, strict=True)]
    lines[3] = lines[3][:82]
    lines[5] += ","
    found = parse_puzzles(["puzzle,solution", *lines], "x")
    assert same(found, pairs)
    assert (
        ", 11 of 12 solutions given, the others found by the solver, each with one solution"
        in found.story
    )
    none = [line[:82] for line in lines]
    assert same(parse_puzzles(["puzzle,solution", *none], "x"), pairs)
    assert "solutions found by the solver" in parse_puzzles(["puzzle,solution", *none], "x").story
    several = "." * 81 + lines[0][81:]
    told = parse_puzzles([several, lines[1], "." * 81 + ","], "x", check_unique=False)
    assert told.counts.tolist() == [2, 1, 2] and told.solutions[0].tolist() == pairs[1][0].tolist()


def other_clue(line):
    at = next(i for i, digit in enumerate(line) if digit != "0")
    return line[:at] + str(int(line[at]) % 9 + 1) + line[at + 1 :]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s[1:], "puzzle has 80 characters: write all 81"),
        (lambda s: s + "1", "solution has 82 characters"),
        (lambda s: s[:4] + "a" + s[5:], "puzzle has 'a' at character 5: use 1-9, and 0 or ."),
        (lambda s: s[:-1] + "0", "solution has '0' at character 81: use 1-9 in every cell"),
        (lambda s: s[:81], "1 field, but the first line has 2: fix or delete the line"),
        (lambda s: ";", "1 field, but"),
        (lambda s: s[:82] + "1", "solution has 1 character: write all 81"),
        (lambda s: "," + s, "puzzle has 0 characters"),
        (
            lambda s: "\N{BLACK STAR}" + s[1:],
            r"puzzle has '\u2605' \(U\+2605\) at character 1:",
        ),
        (lambda s: s[:82] + s[83] + s[83:], "solution repeats a digit"),
        (other_clue, "the clue at character .* differs from the solution"),
        (lambda s: "0" * 81 + s[81:], "more than one solution"),
    ],
)
@pytest.mark.parametrize("chunk", [20_000, 3])
def test_rows_that_are_wrong(tmp_path, pairs, monkeypatch, change, match, chunk):
    monkeypatch.setattr(puzzle_file, "CHUNK", chunk)
    path = tmp_path / "bad.csv"
    write_csv(path, *pairs)
    lines = path.read_text().split("\n")
    lines[7] = change(lines[7])
    lines[9], lines[10] = other_clue(lines[9]), "1,2,3"  # only the first wrong row is named
    path.write_text("\n".join(lines))
    match = rf"bad\.csv: data row 7 \(file line 8\): .*{match}"
    with pytest.raises(SudokuError, match=match) as error:
        read_puzzles(path)
    assert "\n" not in str(error.value)
    assert len(read_puzzles(path, limit=6).puzzles) == 6
    if "more than one" in match:
        assert len(read_puzzles(path, limit=8, check_unique=False).puzzles) == 8


GRID = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot be read: No such file"),
        (b"", "no puzzles: the text is empty"),
        (b"\n# nothing\n", "no puzzles: the text is empty"),
        (b"puzzle,solution\n\n", "no data rows"),
        (
            b"a,b\n1,2\n",
            "no puzzle is found; the text begins with 'a,b' .2 characters.: give a table",
        ),
        (b"PK\x03\x04\0\0\x08", "not a text file: unpack it"),
        # A damaged first row is a row, and no header that could be passed over.
        (f"{GRID[1:]}\n{GRID}\n".encode(), r"data row 1 \(file line 1\): puzzle has 80 characters"),
        (f"O{GRID[1:]}\n{GRID}\n".encode(), r"data row 1 \(file line 1\): puzzle has 'O'"),
        (
            b"0200410000230010\n",
            "the puzzles are 4x4: set box to 2 .--box=2, or --config.d",
        ),
        (b"puzzle\n0200410000230010\n", "the puzzles are 4x4: set box to 2"),
    ],
)
def test_files_that_are_wrong(tmp_path, content, match):
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SudokuError, match=rf"bad\.csv: {match}") as error:
        read_puzzles(path)
    assert "\n" not in str(error.value)
