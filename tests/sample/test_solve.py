"""The command sample.solve: how a puzzle may be given, what is printed, and bad input."""

import io

import numpy as np
import pytest

from data.sudoku.grids import digits, pretty
from sample import solve as command
from sample.command.puzzle_solver import Attempt
from sample.step import SamplerConfig
from tests.data.sudoku.puzzles import CLASSIC, SOLVED, draw, grid


@pytest.fixture
def asked(monkeypatch) -> list[np.ndarray]:
    """The puzzles that a made-up solver was asked. It knows one grid, and takes seven steps."""
    puzzles = []

    class Solver:
        folder, tokenizer, sampler = "model", None, SamplerConfig()

        def __init__(self, folder):
            assert folder in ("checkpoints/sudoku_long", "mine")

        def ask(self, puzzle, seed, watch):
            puzzles.append(puzzle)
            return Attempt(grid(SOLVED), seed == 0, 7, 0.25, 1.5)

    monkeypatch.setattr(command, "PuzzleSolver", Solver)
    monkeypatch.setattr(command.Checkpoint, "open", lambda folder, base, tokenizer: folder)
    monkeypatch.setattr("sys.stdin", io.StringIO(pretty(grid(CLASSIC))))
    return puzzles


ROWS = [CLASSIC[at : at + 9].replace("0", ".") for at in range(0, 81, 9)]


@pytest.mark.parametrize(
    "words",
    [
        [CLASSIC],
        [CLASSIC.replace("0", "."), "--seed", "0"],
        ["--checkpoint=mine", f"--puzzle={CLASSIC}"],
        ["\n".join(ROWS)],
        [f"-----------\n{pretty(grid(CLASSIC))}\n", "--limit=1"],
        ROWS,
        [*CLASSIC],
        [*CLASSIC, "--seed", "0"],
        [row.replace(".", "-") for row in ROWS],
        [CLASSIC.replace("0", "-"), "--limit=1"],
        [",".join(CLASSIC).replace("0", "")],
        ["-"],
        [],
    ],
)
def test_a_puzzle_is_solved(words, asked, capsys):
    assert command.main(["solve", *words]) == 0
    assert [digits(puzzle) for puzzle in asked] == [CLASSIC]
    said = capsys.readouterr()
    assert said.out == (
        f"{pretty(grid(SOLVED))}\n\nSolved: the answer is the puzzle's one solution.\n"
        "It took 7 denoising steps and 0.25 seconds, after 1.5 seconds of compilation.\n\n"
    )
    story = "standard input: 1 puzzle, drawn as grids of 9 lines, solutions found by the solver\n"
    assert said.err == (story if words in ([], ["-"]) else "")


def test_the_puzzles_of_a_file(tmp_path, asked, capsys):
    path = tmp_path / "mine.sdm"
    other = digits(draw(3, 1, 40, 40)[0][0])
    open_one = SOLVED.replace("1", "0").replace("2", "0")
    path.write_text("\n".join([CLASSIC, "55" + CLASSIC[2:], other, open_one]))
    assert command.main(["solve", str(path), "--seed=1"]) == 1
    assert [digits(puzzle) for puzzle in asked] == [CLASSIC, other, open_one]
    said = capsys.readouterr()
    assert said.err == (
        f"{path}: 4 puzzles, one in each line, solutions found by the solver, 1 without a "
        "solution, 1 with several solutions\n"
        "error: puzzle 2 has no solution: check its digits\n"
    )
    assert "Puzzle 4 of 4\nThis puzzle has several solutions. The answer is right if" in said.out
    assert "Solved: the answer is one of the puzzle's solutions.\n" in said.out
    assert "Not solved: " in said.out and "The grid is not written in the format" in said.out
    assert said.out.endswith("Solved 2 of 3 puzzles, in 7.0 steps on average.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.csv"], "'none.csv' is no file, and no puzzle: a puzzle has 81 or 16 cells, not 8"),
        ([CLASSIC + "1"], "a puzzle has 81 or 16 cells, not 82"),
        ([CLASSIC.replace("7", "a")], "the puzzle: no puzzle is found; the text begins with '53"),
        (["a\nb"], "the puzzle: no puzzle is found; the text begins with 'a'"),
        (["55" + CLASSIC[2:]], "the puzzle has no solution: check its digits"),
        (["1" + "." * 15], "the shipped models are trained on 9x9 puzzles: give --checkpoint=DIR"),
        ([CLASSIC, "--limt=2"], "limt"),
        ([f"--puzzle={CLASSIC}", "extra"], "unexpected argument 'extra'"),
        (["extra", "--puzzle", CLASSIC], "unexpected argument 'extra'"),
        ([CLASSIC, "--limit=0"], "limit"),
    ],
)
def test_bad_input_is_one_line(words, message, asked, capsys):
    assert command.main(["solve", *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and message in said.err and said.err.count("\n") == 1
    assert said.out == "" and asked == []


def test_a_terminal_asks_for_a_puzzle(asked, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert command.main(["solve"]) == 2
    assert capsys.readouterr().err.startswith("error: give a puzzle, a file of puzzles, or -")
    assert command.main(["solve", "--help"]) == 0
    assert "--checkpoint" in capsys.readouterr().out
