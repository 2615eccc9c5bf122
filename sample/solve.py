"""Lets a model solve Sudoku puzzles of your own, and says by a solver whether it is right.

    python -m sample.solve PUZZLE            # its 81 cells, such as 53..7....6..195....98....6. ...
    python -m sample.solve "GRID"            # a grid that is pasted over several lines
    python -m sample.solve FILE --limit=10   # a file of puzzles
    python -m sample.solve - < FILE          # the same from standard input

A puzzle has 81 cells, or 16 for 4x4. An empty cell is 0 or one of . * _ ? x -. A file may be a
table with a column puzzle, may have a puzzle in each line, or may have drawn grids
(data/sudoku/puzzle_text.py).
On a terminal the grid is redrawn at each denoising step. The exit status is 0 for a wrong answer
too, 1 if a puzzle of several has no solution, and 2 if nothing could be asked.
"""

import os
import sys

import numpy as np
from absl import flags

from data.sudoku.cells import BOXES, clean, quote, symbols, unknown_sign, whole_cells
from data.sudoku.grids import pretty
from data.sudoku.puzzle_file import Puzzles, lines_of, parse_puzzles, read_puzzles
from files.printable import printable
from sample import cli, compile_cache
from sample.checkpoint import Checkpoint
from sample.command.console import complain
from sample.command.grid_view import GridView, can_redraw
from sample.command.interrupts import Interrupts
from sample.command.puzzle_solver import (
    CHECKPOINT,
    PuzzleSolver,
    effort,
    is_right,
    shipped,
    verdict,
)

CHARACTERS_SHOWN = 200  # of an answer that is no grid


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    for name, help in (
        ("puzzle", "A puzzle, a file, or - for standard input. --puzzle= may be left out."),
        (
            "checkpoint",
            "Folder of a checkpoint or an adapter, or a training run's workdir. Default for 9x9 "
            f"puzzles: {CHECKPOINT}.",
        ),
        ("base", "Folder of the adapter's base; default: the folder that the adapter names."),
        ("tokenizer", "A tokenizer.json; default: the checkpoint's, else the repository's."),
    ):
        flags.DEFINE_string(name, None, help, flag_values=values)
    help = "Number of puzzles to solve from the start of the text; default: all."
    flags.DEFINE_integer("limit", None, help, lower_bound=1, flag_values=values)
    cli.define_seed(values, 0, "Random seed of the sampler's noise.")
    return values


def with_name(argv: list[str]) -> list[str]:
    """The command line with --puzzle= before the puzzle. Cells may be given in several words.

    A word that begins with a dash is part of the puzzle, not a flag, if it has several lines, or
    at least four cells and nothing else. All words after -- are part of the puzzle.
    """
    values, words, others, value_follows = define_flags(), [], argv[:1], False
    end = argv.index("--") if "--" in argv else len(argv)
    for word in argv[1:end]:
        drawn = "\n" in word or (len(word) >= 4 and set(clean(word)) <= symbols(3))
        if value_follows or (word.startswith("-") and word != "-" and not drawn):
            others.append(word)
            value_follows = not value_follows and word.lstrip("-") in values
        else:
            words.append(word)
    words += argv[end + 1 :]
    if any(word.split("=")[0] in ("--puzzle", "-puzzle") for word in others):
        return others + words  # cli.run says that it did not expect the words
    return [*others, *([f"--puzzle={' '.join(words)}"] if words else [])]


def find_puzzles(given: str | None, limit: int | None) -> Puzzles:
    """The puzzles that the command line names. Says on stderr what was understood of a file.

    Args:
      given: a puzzle, the path of a file, or "-"; None for standard input, if it is no terminal.
      limit: the number of puzzles to take; None for all.

    Raises:
      ValueError: nothing is given, or no puzzle is found in it.
    """
    if given == "" or (given is None and sys.stdin.isatty()):
        raise ValueError("give a puzzle, a file of puzzles, or - for standard input")
    if given in (None, "-"):
        name, lines = "standard input", lines_of(sys.stdin.buffer)
        found = parse_puzzles(lines, name, None, limit, check_unique=False)
    elif os.path.exists(given):
        found = read_puzzles(given, None, limit, check_unique=False)
    elif "\n" in given or any(whole_cells(given, box**4, box) for box in BOXES):
        return parse_puzzles(given.splitlines(), "the puzzle", None, limit, check_unique=False)
    else:
        if files := [word for word in given.split() if os.path.exists(word)]:
            raise ValueError(f"{quote(given)}: give one file or one puzzle, such as {files[0]}")
        count = len(clean(given))
        wrong = unknown_sign(given) or (f", not {count}" if count not in (81, 16) else "")
        raise ValueError(
            f"{quote(given)}: no such file, and no puzzle: a puzzle has 81 or 16 cells{wrong}"
        )
    complain(found.story)
    return found


def solve(values: flags.FlagValues) -> int:
    """Solves the puzzles and prints the answers; returns the exit status.

    Raises:
      ValueError, OSError: a puzzle, or a checkpoint that cannot be used.
    """
    compile_cache.enable()
    found = find_puzzles(values.puzzle, values.limit)
    count = len(found.puzzles)
    if not found.counts.any():
        raise ValueError(
            "the puzzle has no solution: check its digits" if count == 1 else "no puzzle has one"
        )
    if found.box != 3 and not values.checkpoint:
        raise ValueError(
            "the shipped models are trained on 9x9 puzzles: give --checkpoint=DIR of a model for "
            "4x4, such as bash scripts/sudoku.sh --quick trains"
        )
    checkpoint = Checkpoint.open(values.checkpoint or shipped(), values.base, values.tokenizer)
    solver = PuzzleSolver(checkpoint)
    steps = []
    solved = 0
    for i, (puzzle, solution, solutions) in enumerate(
        zip(found.puzzles, found.solutions, found.counts, strict=True), 1
    ):
        if count > 1:
            print(f"Puzzle {i} of {count}")
        if not solutions:
            complain(f"error: puzzle {i} has no solution: check its digits")
            continue
        if solutions > 1:
            print("This puzzle has several solutions. The answer is right if it is one of them.")
        taken, right = _solve_one(solver, puzzle, solution if solutions == 1 else None, values.seed)
        steps.append(taken)
        solved += right
    if count > 1:
        print(f"Solved {solved} of {len(steps)} puzzles, in {np.mean(steps):.1f} steps on average.")
    return int(len(steps) < count)


def _solve_one(
    solver: PuzzleSolver, puzzle: np.ndarray, solution: np.ndarray | None, seed: int
) -> tuple[int, bool]:
    """Solves a puzzle and prints the answer.

    Args:
      solver: the model.
      puzzle: [n*n] int8.
      solution: [n*n] int8; None if there are several.
      seed: random seed of the sampler's noise.

    Returns:
      (the number of denoising steps, whether the answer is right).
    """
    view = _view(solver, puzzle)
    if view:
        view.draw_puzzle(f"Asking {solver.folder} ...")
    attempt = solver.ask(puzzle, seed, view.draw if view else None)
    answer, right = attempt.grid, is_right(puzzle, attempt.grid)
    if view:
        # Of several solutions, any is right. A wrong answer then has no cells that are wrong.
        view.draw_answer(answer, answer if solution is None else solution)
    elif answer is not None:
        print(f"{pretty(answer)}\n")
    print(verdict(puzzle, answer, solution))
    if answer is None:
        begins = printable(" ".join(attempt.text.split()))[:CHARACTERS_SHOWN]
        print(f"The answer {'begins: ' if begins else 'is empty.'}{begins}")
    if answer is not None and not attempt.trained_format:
        print("The grid is not written in the format that models are trained on here.")
    print(f"{effort(attempt)}\n", flush=True)
    return attempt.steps, right


def _view(solver: PuzzleSolver, puzzle: np.ndarray) -> GridView | None:
    """The view that redraws the grid; None if it cannot be drawn."""
    if not can_redraw():
        return None
    try:
        return GridView(puzzle, solver.tokenizer, solver.sampler.max_steps, sys.stdout, True)
    except ValueError:  # the tokenizer joins digits, so that steps are no grids
        return None


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = define_flags()
    with Interrupts(complain) as interrupts, interrupts.held(presses=1):
        return cli.run(values, lambda: solve(values), with_name(argv), __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
