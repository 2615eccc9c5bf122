"""Makes a new 9x9 Sudoku and lets a shipped model solve it before your eyes.

    bash scripts/demo.sh              # sets up first; another puzzle each time
    python -m scripts.demo --seed=7   # the puzzle of seed 7

On a terminal the grid is redrawn at each denoising step: given digits are bold, accepted ones are
green, re-noised ones are the paler the less certain the model is of them, and at the end wrong
digits are red. In a pipe the grids stand one below the other, and re-noised cells are dots.
"""

import secrets
import sys

import numpy as np
from absl import flags

from data.sudoku.sources import SudokuSource
from sample import cli, compile_cache
from sample.checkpoint import Checkpoint
from sample.command.grid_view import GridView, can_redraw
from sample.command.puzzle_solver import CHECKPOINT, PuzzleSolver, effort, verdict
from sample.generation import Snapshot

BOX = 3
CLUES = (40, 45)
SEEDS = 10**6  # without --seed, one of so many is drawn
DELAY = 0.15  # seconds for which each step stays on a terminal


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    help = "Random seed of the puzzle and of the sampler's noise. Default: another one each time."
    cli.define_seed(values, None, help)
    help = "Folder of a checkpoint that was fine-tuned on 9x9 Sudoku."
    flags.DEFINE_string("checkpoint", CHECKPOINT, help, flag_values=values)
    return values


def demo(values: flags.FlagValues) -> None:
    """Makes a puzzle, lets the model solve it, and says how that went.

    Raises:
      ValueError, OSError: a checkpoint that cannot be loaded, or a terminal that closed.
    """
    compile_cache.enable()
    seed = secrets.randbelow(SEEDS) if values.seed is None else values.seed
    # Puzzles of the test split are those that no training run has seen, nor any symmetry of them.
    item = SudokuSource(seed, 1, BOX, CLUES, "test")[0]
    puzzle, solution = item["puzzle"], item["solution"]
    solver = PuzzleSolver(Checkpoint.open(values.checkpoint))
    terminal = can_redraw()
    delay, limit = DELAY if terminal else 0.0, solver.sampler.max_steps
    view = GridView(puzzle, solver.tokenizer, limit, sys.stdout, terminal, delay)
    clues = np.count_nonzero(puzzle)
    print(f"A new Sudoku with {clues} of 81 digits given and one solution (--seed={seed}):\n")
    view.draw_puzzle(f"Compiling the sampler for {solver.folder} ...")

    steps: list[Snapshot] = []
    # Into a pipe, steps are drawn afterwards: a closed pipe must not raise in JAX's own thread.
    attempt = solver.ask(puzzle, seed, view.draw if terminal else steps.append)
    for step in steps:
        view.draw(step)
    view.draw_answer(attempt.grid, solution)
    print(verdict(puzzle, attempt.grid, solution))
    print(f"{effort(attempt._replace(seconds=attempt.seconds - view.waited))}\n")
    print("What you saw: each step predicts all cells at once and keeps those that it is sure of.")
    print("What to run next: bash scripts/sudoku.sh --quick trains such a model in 5 minutes.")


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status, which is 0 for a wrong answer too."""
    values = define_flags()
    return cli.run(values, lambda: demo(values), argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
