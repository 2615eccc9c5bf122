"""The command sample.solve: how a puzzle may be given, what is printed, and bad input."""

import io

import numpy as np
import pytest

from data.sudoku.grids import digits, pretty
from sample import solve as command
from sample.command import puzzle_solver
from sample.command.puzzle_solver import CHECKPOINT, Attempt, shipped
from sample.step import SamplerConfig
from tests.data.sudoku.puzzles import CLASSIC, SOLVED, draw, grid


@pytest.fixture
def asked(monkeypatch) -> list[np.ndarray]:
    """The puzzles that a made-up solver was asked. It knows one grid, and takes seven steps."""
    puzzles = []

    class Solver:
        folder, tokenizer, sampler = "model", None, SamplerConfig()

        def __init__(self, folder):
            assert str(folder) in (CHECKPOINT, "mine")

        def ask(self, puzzle, seed, watch):
            puzzles.append(puzzle)
            return Attempt(grid(SOLVED), seed == 0, 7, 0.25, 1.5, "a grid")

    monkeypatch.setattr(command, "PuzzleSolver", Solver)
    monkeypatch.setattr(command.Checkpoint, "open", lambda folder, base, tokenizer: folder)
    give(monkeypatch, pretty(grid(CLASSIC)).encode())
    return puzzles


class Terminal(io.RawIOBase):
    """A terminal. After each end of input it can be read again; `ends` counts the ends."""

    def __init__(self, text):
        self.text, self.ends = text, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        part, self.text = self.text[: len(buffer)], self.text[len(buffer) :]
        buffer[: len(part)] = part
        self.ends += not part
        return len(part)


def give(monkeypatch, text):
    """Gives bytes as standard input; returns the Terminal."""
    terminal = Terminal(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(terminal)))
    return terminal


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
        ["--", CLASSIC.replace("0", "-")],
        ["--seed=0", "--", *ROWS],
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
        (["none.csv"], "'none.csv': no such file, and no puzzle: a puzzle has 81 or 16 cells, not"),
        (["/home/me/four.sdm"], "'/home/me/four.sdm': no such file, and no puzzle"),
        (["p/" * 38 + "a.csv"], ": no such file, and no puzzle: a puzzle has 81 or 16 cells\n"),
        (["README.md", "CITATION.md"], ": give one file or one puzzle, such as README.md"),
        ([""], "give a puzzle, a file of puzzles, or -"),
        ([CLASSIC + "1"], "a puzzle has 81 or 16 cells, not 82"),
        (
            [CLASSIC.replace("7", "a")],
            "no puzzle: a puzzle has 81 or 16 cells; 'a' is neither",
        ),
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


def test_standard_input_is_read_as_a_file_is(asked, monkeypatch):
    other = digits(draw(3, 1, 40, 40)[0][0])
    for text in (
        f"{CLASSIC}\r{other}\r".encode(),
        f"puzzle\r\n{CLASSIC}\r\n{other}".encode("utf-16"),
    ):
        asked.clear()
        give(monkeypatch, text)
        assert command.main(["solve", "-"]) == 0
        assert [digits(puzzle) for puzzle in asked] == [CLASSIC, other]


def test_a_terminal_is_read_to_its_end_once(asked, monkeypatch):
    terminal = give(monkeypatch, f"{CLASSIC}\n".encode())
    assert command.main(["solve", "-"]) == 0 and terminal.ends <= 2  # one after a full line


def test_the_shipped_model_is_found_from_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert shipped().is_absolute() and shipped().match(CHECKPOINT)
    monkeypatch.setattr(puzzle_solver, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert command.main(["solve", CLASSIC]) == 2
    assert "run the command in the repository, or give --checkpoint" in capsys.readouterr().err


def test_an_answer_without_a_grid_is_shown(asked, monkeypatch, capsys):
    answers = iter(["I am\n\x1b not sure" + "!" * 300, ""])
    monkeypatch.setattr(
        command.PuzzleSolver, "ask", lambda *_: Attempt(None, False, 7, 0.2, 0, next(answers))
    )
    assert command.main(["solve", f"{CLASSIC}\n{CLASSIC}"]) == 0
    said = capsys.readouterr().out
    assert "of 81 digits.\nThe answer begins: I am \ufffd not sure!!!" in said
    assert said.count("!") < 200 and "The answer is empty.\n" in said


def test_a_terminal_asks_for_a_puzzle(asked, capsys, monkeypatch):
    monkeypatch.setattr(Terminal, "isatty", lambda self: True)
    assert command.main(["solve"]) == 2
    assert capsys.readouterr().err.startswith("error: give a puzzle, a file of puzzles, or -")
    assert command.main(["solve", "--help"]) == 0
    assert "--checkpoint" in capsys.readouterr().out
