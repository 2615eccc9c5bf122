"""The folder of a training run, which one training at a time may write to."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from files.lock import Held, lock
from files.staging import is_staging, sweep
from files.whole_file import remove_empty
from train.config import ConfigError

LOCK = "run.lock"


@contextlib.contextmanager
def held_workdir(workdir: Path) -> Iterator[None]:
    """Keeps a workdir for this run until the end of the block.

    The first process of the run holds the lock of workdir/run.lock, and the kernel lets it go when
    that process ends, however it ends. The file says who holds it. What killed runs left
    half-written in the workdir is removed.

    Args:
      workdir: is made if it is not there, and removed at the end if nothing was put into it.

    Raises:
      ConfigError: another training writes to the workdir, or it is not the folder of a run.
      OSError: the folder cannot be made or written.
    """
    with contextlib.ExitStack() as stack:
        by_first(lambda: _hold(workdir, stack), workdir)
        yield


def by_first(action: Callable[[], None], workdir: Path) -> None:
    """Lets the first process of a run act, while the others wait.

    Args:
      action: what is done to the workdir.
      workdir: the run's folder.

    Raises:
      ValueError, OSError: those of the action, in the first process. In the others a ConfigError
        says that the first one has failed. So all of them end.
    """
    failed: Exception | None = None
    if jax.process_index() == 0:
        try:
            action()
        except (ValueError, OSError) as error:
            failed = error
    elsewhere = multihost_utils.broadcast_one_to_all(np.int32(failed is not None))
    if failed is not None:
        raise failed
    if elsewhere:
        raise ConfigError(f"{workdir}: the first process cannot use it, and says why")


def is_new(workdir: Path) -> bool:
    """Whether a workdir is not there yet, or holds nothing but what is removed or comes again."""
    if not workdir.exists():
        return True
    return all(entry.name == LOCK or is_staging(entry.name) for entry in workdir.iterdir())


def _hold(workdir: Path, stack: contextlib.ExitStack) -> None:
    """Takes the lock of a workdir; the stack lets it go."""
    if not is_new(workdir) and not (workdir / "config.json").exists():
        raise ConfigError(
            f"{workdir} is not empty and is not the folder of a run: choose a new --workdir"
        )
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    stack.callback(remove_empty, made)
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(lock(workdir / LOCK))
    except Held as error:
        raise ConfigError(
            f"{workdir}: another training, {error.holder}, writes here: wait for its end, or "
            "choose another --workdir"
        ) from None
    sweep(workdir)
