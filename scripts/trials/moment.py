"""The moment at which a trial kills a process."""

import time
from collections.abc import Callable

import numpy as np

from scripts.trials.processes import Running

LONGEST_DELAY = 0.03  # seconds after the first sign that something is written


def kill_anywhere(process: Running, rng: np.random.Generator, seconds: float) -> str:
    """Kills a process after a random share of the processor time that it takes undisturbed.

    Args:
      process: is killed, unless it ends before.
      rng: decides when.
      seconds: the processor time of the whole.

    Returns:
      when, in words.
    """
    share = rng.uniform()
    while process.seconds() < share * seconds:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.01))  # processor time is counted in hundredths of a second
    process.kill()
    return f"killed after {share * seconds:.2f} s of {seconds:.2f} s"


def kill_while(
    process: Running,
    rng: np.random.Generator,
    writes: Callable[[], bool],
    what: str,
    longest: float = LONGEST_DELAY,
) -> str:
    """Kills a process up to `longest` seconds after something holds; see kill_anywhere."""
    delay = rng.uniform(0, longest)
    while process.is_alive() and not writes():
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    return f"killed {1000 * delay:.0f} ms after {what}"
