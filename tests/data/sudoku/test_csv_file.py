"""CSV files of puzzles: all forms that are read, and every row or file that is refused."""

import numpy as np
import pytest

from data.sudoku import csv_file
from data.sudoku.csv_file import read_csv, write_csv
from data.sudoku.engine import SudokuError, generate
from tests.data.sudoku.puzzles import CLASSIC, SOLVED


@pytest.fixture
def pairs():
    rng = np.random.default_rng(3)
    puzzles, solutions = zip(*[generate(rng, 3, 35) for _ in range(12)], strict=True)
    return np.array(puzzles), np.array(solutions)


def same(read, pairs):
    return np.stack(read).dtype == np.int8 and np.array_equal(read, pairs)


def test_csv_round_trip(tmp_path, pairs, monkeypatch):
    path = tmp_path / "a.csv"
    write_csv(path, *pairs)
    text = path.read_text()
    assert text.startswith("puzzle,solution\n") and text.count("\n") == 13
    assert same(read_csv(path), pairs)
    assert same(read_csv(path, limit=5), [part[:5] for part in pairs])
    small = [np.array([g]) for g in generate(np.random.default_rng(0), 2, 6)]
    write_csv(path, *small)
    assert same(read_csv(path, box=2), small)
    with pytest.raises(SudokuError, match="cannot pair"):
        write_csv(path, pairs[0], pairs[1][:3])

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
        monkeypatch.setattr(csv_file, "BLOCK_BYTES", block)
        for name, variant in variants.items():
            path.write_bytes(variant.encode())
            assert same(read_csv(path), pairs), (name, block)
    path.write_text(text + "1,2\n")
    assert same(read_csv(path, limit=12), pairs)


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
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", block)
    path = tmp_path / "bad.csv"
    write_csv(path, *pairs)
    lines = path.read_text().split("\n")
    lines[7] = change(lines[7])
    lines[9], lines[10] = other_clue(lines[9]), "1,2,3"  # only the first wrong row is named
    path.write_text("\n".join(lines))
    match = rf"bad\.csv: data row 7 \(file line 8\): .*{match}"
    with pytest.raises(SudokuError, match=match) as error:
        read_csv(path)
    assert "\n" not in str(error.value)
    assert len(read_csv(path, limit=6)[0]) == 6
    if "more than one" in match:
        assert len(read_csv(path, limit=8, check_unique=False)[0]) == 8


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
        read_csv(path)
    assert "\n" not in str(error.value)
