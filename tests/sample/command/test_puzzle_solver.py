"""The verdict on a model's answer to a puzzle."""

import numpy as np

from data.sudoku.sources import SudokuSource
from sample.command.puzzle_solver import Attempt, effort, is_right, verdict
from tests.data.sudoku.puzzles import grid

PUZZLE, SOLUTION = SudokuSource(0, 1, 3, (40, 45), "test")[0].values()


def test_the_verdict_names_wrong_cells():
    assert verdict(PUZZLE, SOLUTION, SOLUTION) == "Solved: the answer is the puzzle's one solution."
    said = "Not solved: the model's answer is not a grid of 81 digits."
    assert verdict(PUZZLE, None, SOLUTION) == said and not is_right(PUZZLE, None)
    answer = SOLUTION.copy()
    answer[[0, 17, 40, 80]] = answer[[0, 17, 40, 80]] % 9 + 1
    said = verdict(PUZZLE, answer, SOLUTION)
    empty = np.count_nonzero(PUZZLE == 0)
    assert said.startswith(f"Not solved: 4 of 81 cells are wrong ({empty} were empty): row 1, ")
    assert f"row 2, column 9 is {answer[17]}, not {SOLUTION[17]}; row 5, column 5 " in said
    assert said.endswith("; and 1 more.") and "row 9" not in said
    answer[[0, 17, 40]] = SOLUTION[[0, 17, 40]]
    assert verdict(PUZZLE, answer, SOLUTION).startswith("Not solved: 1 of 81 cells is wrong (")


def test_any_of_several_solutions_is_right():
    puzzle = np.zeros(16, np.int8)
    right, repeats = grid("1234341221434321"), grid("1234341221434322")
    assert verdict(puzzle, right, None) == "Solved: the answer is one of the puzzle's solutions."
    assert is_right(puzzle, right) and not is_right(puzzle, repeats)
    said = "Not solved: the answer changes a clue, or repeats a digit."
    assert verdict(puzzle, repeats, None) == said
    puzzle[0] = 2
    assert verdict(puzzle, right, None) == said


def test_the_effort_of_an_answer():
    attempt = Attempt(SOLUTION, True, steps=7, seconds=0.254, compile_seconds=0.0, text="")
    assert effort(attempt) == "It took 7 denoising steps and 0.25 seconds."
    slow = effort(attempt._replace(compile_seconds=3.21))
    assert slow == "It took 7 denoising steps and 0.25 seconds, after 3.2 seconds of compilation."
