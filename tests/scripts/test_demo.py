"""The demo in a pipe, as a user runs it, and bad input in one line."""

import subprocess
import sys

import numpy as np

from data.sudoku.grids import grid_lines
from data.sudoku.sources import SudokuSource
from scripts import demo

RULE = "------+-------+------"
EASY = 5  # a seed whose puzzle the shipped model solves


def test_in_a_pipe_every_step_is_printed():
    command = [sys.executable, "-m", "scripts.demo", f"--seed={EASY}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "\x1b" not in said
    puzzle, solution = SudokuSource(EASY, 1, 3, demo.CLUES, "test")[0].values()
    clues = np.count_nonzero(puzzle)
    assert said.startswith(f"A new Sudoku with {clues} of 81 digits given")
    assert f"--seed={EASY}" in said
    first, last = (grid_lines([str(d) if d else "." for d in grid]) for grid in (puzzle, solution))
    assert "\n".join(first) in said and "\n".join(last) in said
    steps = said.count("\nStep ")
    assert 1 < steps < 32 and said.count(RULE) == 2 * (steps + 1)
    assert f"Step {steps} of at most 32: mean entropy 0.00" in said
    assert f"{81 - clues} of {81 - clues} empty cells accepted" in said
    assert "Solved: the answer is the puzzle's one solution." in said
    assert f"It took {steps} denoising steps and " in said
    assert said.splitlines()[-2].startswith("What you saw: ")
    assert said.splitlines()[-1].startswith("What to run next: bash scripts/")


def test_bad_input_is_one_line(capsys):
    for flags, message in (
        (["--checkpoint=nowhere"], "nowhere"),
        (["--seed=-1"], "--seed"),
        (["more"], "unexpected argument 'more'"),
    ):
        assert demo.main(["demo", *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
