"""Damaged checkpoints of a run: what is wrong with one, and which older one is whole."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from diffusiongemma.formats.orbax_tree import open_tree, read_leaf

LONGEST = 200  # characters of a fault that are told


def fault_in(checkpoint: Path) -> str:
    """Reads all of a run's checkpoint, one array at a time.

    Args:
      checkpoint: its folder.

    Returns:
      what cannot be read, in one line; "" if everything can.
    """
    try:
        for item in ("params", "optimizer"):
            for leaf in open_tree(checkpoint / item).values():
                if not isinstance(leaf, str):  # the name of a kind that is no array
                    read_leaf(checkpoint / item, leaf)
        for item in ("data", "model"):
            json.loads((checkpoint / item / "metadata").read_text())
    except (ValueError, OSError, RecursionError) as error:
        text = " ".join(str(error).split())
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return ""


def advice(checkpoints: Path, steps: Sequence[int], fault: str) -> str:
    """Says in one line that the newest checkpoint is damaged, and how to go on.

    Args:
      checkpoints: the folder of the run's checkpoints.
      steps: their numbers, at least one.
      fault: what fault_in says of the newest.
    """
    newest, *older = sorted(steps, reverse=True)
    said = f"the newest checkpoint, of step {newest}, is damaged: {fault}: "
    damaged = [newest]
    for step in older:
        if not fault_in(checkpoints / str(step)):
            folders = shlex.join(str(checkpoints / str(step)) for step in damaged)
            return (
                f"{said}that of step {step} is whole: to go on from it, remove what is damaged "
                f"(rm -r {folders}) and start the run again"
            )
        damaged.append(step)
    others = "the older ones are damaged too" if older else "there is no older one"
    return f"{said}{others}: start again in a new --workdir"
