"""Compares this checkout with another one, to the bit: what they generate, train and convert.

    git worktree add ../other COMMIT
    python -m scripts.compare_checkouts ../other

Each checkout runs in processes of its own, with its own modules, on the same seeds, prompts and
checkpoints, which are this checkout's. Compared are generated tokens, steps and entropies; losses
and weights after five training steps; and converted checkpoints. The times of a denoising step and
of a training step are taken in turn. The exit status is 1 if anything but a time differs.
"""

import sys
import tempfile
from pathlib import Path

from absl import flags

from sample import cli
from scripts.compare_checkouts import cases
from scripts.compare_checkouts.side import Side

HERE = Path(__file__).resolve().parents[2]


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    help = "Root of the other checkout. It may also be given without --other=."
    flags.DEFINE_string("other", None, help, flag_values=values)
    help = "Which comparisons to make."
    flags.DEFINE_multi_enum("only", list(cases.ALL), list(cases.ALL), help, flag_values=values)
    help = "How often each step is timed in each checkout."
    flags.DEFINE_integer("repeats", 30, help, lower_bound=1, flag_values=values)
    return values


def compare(values: flags.FlagValues) -> int:
    """Makes the comparisons and prints a line of the table for each; returns the exit status."""
    if not values.other:
        raise ValueError("name the root of the other checkout")
    other = Path(values.other).resolve()
    if not (other / "diffusiongemma").is_dir():
        raise ValueError(f"{other}: not a checkout of this project")
    print(f"{other} against {HERE}\n{cli.device_line()}\n")
    differ = 0
    with tempfile.TemporaryDirectory(prefix="compare") as scratch:
        folder = Path(scratch)
        with Side(other, folder / "other") as then, Side(HERE, folder / "this") as now:
            shared = cases.prepare(HERE, folder / "shared")
            exact = [name for name in cases.EXACT if name in values.only]
            if exact:
                print("| compared | pieces | other | this | |\n|---|---|---|---|---|", flush=True)
            for name in exact:
                for row in cases.EXACT[name](shared, then, now):
                    print(row.line(), flush=True)
                    differ += not row.equal
            if "times" in values.only:
                print(
                    "\n| ms, in turn | other | this | this / other | fastest |\n" + "|---" * 5 + "|"
                )
                for line in cases.times(then, now, values.repeats):
                    print(line, flush=True)
    if exact:
        print("\nThere is no difference." if not differ else f"\n{differ} comparisons differ.")
    return int(differ > 0)


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = define_flags()
    named = [a if a.startswith("-") else f"--other={a}" for a in argv[1:]]
    return cli.run(values, lambda: compare(values), [argv[0], *named], __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
