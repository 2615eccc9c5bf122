"""Damaged checkpoints of a run: what is wrong with one, and which older one is whole."""

import contextlib
import gc
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusiongemma.formats.orbax_tree import open_tree, read_leaf
from files.json_file import read_json_file

LONGEST = 200  # characters of a fault that are told


def fault_in(checkpoint: Path) -> str:
    """Reads all of a run's checkpoint, one array at a time.

    Values that were changed and can still be decoded are not noticed: Orbax keeps no sums of them.

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
            # Orbax reads these if they are there.
            for file in sorted((checkpoint / item).glob("array_metadatas/*")):
                read_json_file(file)
            if (checkpoint / item / "_sharding").exists():
                read_json_file(checkpoint / item / "_sharding")
        for item in ("data", "model"):
            read_json_file(checkpoint / item / "metadata")
    except OSError as error:
        return shortened(f"{error.filename}: {error.strerror}", checkpoint)
    except (ValueError, RecursionError) as error:
        return shortened(str(error), checkpoint)
    return ""


def advice(checkpoints: Path, steps: Sequence[int], fault: str) -> str:
    """Says in one line that the newest checkpoint is damaged, and how to go on.

    Args:
      checkpoints: the folder of the run's checkpoints.
      steps: their numbers, at least one.
      fault: what fault_in says of the newest.
    """
    newest, *older = sorted(steps, reverse=True)
    said = f"{checkpoints / str(newest)}: the newest checkpoint is damaged ({fault}): "
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Python from printing errors that nobody can handle.

    If Orbax cannot read an array, it drops the reading of the others. Python and TensorStore's
    threads would print a traceback for each of them.
    """
    hooks = sys.unraisablehook, sys.excepthook
    sys.unraisablehook = sys.excepthook = lambda *_: None
    try:
        yield
    finally:
        gc.collect()  # what was dropped is printed now, or never
        sys.unraisablehook, sys.excepthook = hooks


def shortened(text: str, folder: Path) -> str:
    """The ends of a text, in one line of at most LONGEST characters. Paths begin in the folder."""
    text = " ".join(text.replace(f"{folder}/", "").split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 80]} ... {text[-75:]}"
