"""Makes a new 9x9 Sudoku and lets a shipped model solve it before your eyes.

    bash scripts/demo.sh              # sets up first; another puzzle each time
    python -m scripts.demo --seed=7   # the puzzle of seed 7

On a terminal the grid is redrawn at each denoising step: given digits are bold, accepted ones are
green, re-noised ones are the paler the less certain the model is of them, and at the end wrong
digits are red. In a pipe the grids stand one below the other, and re-noised cells are dots.
"""

import os
import secrets
import shutil
import sys

import jax
import numpy as np
from absl import flags

from data.sudoku.grids import parse, prompt
from data.sudoku.sources import SudokuSource
from sample import SamplerConfig, cli, compile_cache, generate
from sample.checkpoint import Checkpoint
from sample.sampler import Snapshot
from sample.timing import Clock
from scripts.demo_view import BOX, GridView

CHECKPOINT = "checkpoints/sudoku_long"
CLUES = (40, 45)
SEEDS = 10**6  # without --seed, one of so many is drawn
DELAY = 0.15  # seconds for which each step stays on a terminal
LINES = 16  # that a grid takes on a terminal, with the texts around it
WRONG_CELLS_SHOWN = 3


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    help = "Random seed of the puzzle and of the sampler's noise. Default: another one each time."
    flags.DEFINE_integer("seed", None, help, lower_bound=0, flag_values=values)
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
    checkpoint = Checkpoint.open(values.checkpoint)
    model, tokenizer = checkpoint.load(), checkpoint.tokenizer
    sampler = SamplerConfig(**checkpoint.sampler_defaults)
    terminal = can_redraw()
    delay = DELAY if terminal else 0.0
    view = GridView(puzzle, tokenizer, sampler.max_steps, sys.stdout, terminal, delay)
    clues = np.count_nonzero(puzzle)
    print(f"A new Sudoku with {clues} of 81 digits given and one solution (--seed={seed}):\n")
    view.draw_puzzle(f"Compiling the sampler for {checkpoint.folder} ...")

    text = checkpoint.template.render([{"role": "user", "content": prompt(puzzle)}])
    tokens = np.array([tokenizer.encode(text)], np.int32)
    steps: list[Snapshot] = []
    # Into a pipe, steps are drawn afterwards: a closed pipe must not raise in JAX's own thread.
    watch = view.draw if terminal else steps.append
    with Clock() as clock:
        out = generate(model, tokens, None, jax.random.key(seed), sampler, watch=watch, clock=clock)
    for step in steps:
        view.draw(step)
    answer = parse(tokenizer.decode(out.tokens[0]), BOX)
    view.draw_answer(answer, solution)
    seconds = clock.seconds["prefill"] + clock.seconds["denoise"] - view.waited
    print(verdict(puzzle, answer, solution))
    print(
        f"It took {out.steps[0, 0]} denoising steps and {seconds:.2f} seconds, after "
        f"{clock.compile_seconds:.1f} seconds of compilation.\n"
    )
    print("What you saw: each step predicts all cells at once and keeps those that it is sure of.")
    print("What to run next: bash scripts/sudoku.sh --quick trains such a model in 5 minutes.")


def verdict(puzzle: np.ndarray, answer: np.ndarray | None, solution: np.ndarray) -> str:
    """One line that says whether the answer is right; arrays are [81] int8."""
    if answer is None:
        return "Not solved: the model's answer is not a grid of 81 digits."
    wrong = np.flatnonzero(answer != solution)
    if not wrong.size:
        return "Solved: the answer is the puzzle's one solution."
    cells = [
        f"row {cell // BOX**2 + 1}, column {cell % BOX**2 + 1} is {answer[cell]}, not "
        f"{solution[cell]}"
        for cell in wrong[:WRONG_CELLS_SHOWN]
    ]
    rest = f"; and {len(wrong) - len(cells)} more" if len(wrong) > len(cells) else ""
    empty = np.count_nonzero(puzzle == 0)
    return f"Not solved: {len(wrong)} of 81 cells are wrong ({empty} were empty): " + (
        "; ".join(cells) + rest + "."
    )


def can_redraw() -> bool:
    """Whether stdout is a terminal that understands escape codes and has room for a grid."""
    smart = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return smart and shutil.get_terminal_size().lines >= LINES


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status, which is 0 for a wrong answer too."""
    values = define_flags()
    return cli.run(values, lambda: demo(values), argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
