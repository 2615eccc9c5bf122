"""Checkpoints of a training run: weights, optimizer, step and data position, by orbax."""

import collections
import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from train.damage import advice, fault_in, quiet, shortened
from train.step import TrainState

# Disk space that a checkpoint takes beside its arrays: metadata of every array.
MARGIN_BYTES = 2 << 20


class Checkpointer:
    """Numbered checkpoints in workdir/checkpoints. Each appears whole or not at all.

    A checkpoint has four items:
      params: the trained weights, or their running mean if the run has one.
      optimizer: the optimizer's state and the step; with a running mean, the trained weights too.
      data: the state of the data iterator.
      model: what it takes to build the model again (diffusiongemma/formats/orbax.py reads it).

    Frozen weights are not saved. They are those of the checkpoint that the run started from.

    Args:
      workdir: the run's folder.
      keep: how many of the latest checkpoints stay.
      model: description of the model that JSON can hold.
    """

    def __init__(self, workdir: Path, keep: int, model: dict[str, Any]) -> None:
        self.model = model
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True),
        )

    def latest(self) -> int | None:
        """The number of steps done in the newest checkpoint; None if there is no checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: dict[str, Any]) -> None:
        """Saves a checkpoint in the background, under the number state.step.

        The state's arrays are copied first, so the next step may donate them at once.

        Args:
          state: the run's state.
          data: the state of the data iterator, which JSON can hold.

        Raises:
          OSError: the disk has no room for the checkpoint, or the one before could not be saved.
        """
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(state.result),
            optimizer=ocp.args.StandardSave(_rest(state)),
            data=ocp.args.JsonSave(data),
            model=ocp.args.JsonSave(self.model),
        )
        with self._saving():
            self._manager.wait_until_finished()
        self._check_space(args)
        with self._saving():
            self._manager.save(int(state.step), args=args)

    def restore(self, step: int, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Reads the checkpoint of a step.

        Args:
          step: the checkpoint's number.
          target: a state of this run. The checkpoint's arrays are placed where the target's are,
            whatever mesh they were saved on.

        Returns:
          (state, data): the run's state, and the state of the data iterator.

        Raises:
          ValueError: an array of the checkpoint has another shape or dtype than the target's; or
            the checkpoint is damaged. The message names the newest one that is whole.
        """
        self._manager.wait_until_finished()
        with quiet():
            try:
                return self._read(step, target)
            except MemoryError:
                raise
            except Exception:  # Orbax has no class for what is damaged
                folder = Path(self._manager.directory)
                if fault := fault_in(folder / str(step)):
                    steps = [s for s in self._manager.all_steps() if s <= step]
                    raise ValueError(advice(folder, steps, fault)) from None
                raise

    def _read(self, step: int, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Does the work of `restore`."""
        self._check_arrays(step, target)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(target.result),
                optimizer=ocp.args.StandardRestore(_rest(target)),
                data=ocp.args.JsonRestore(),
                model=ocp.args.JsonRestore(),  # is not used, but must be whole
            ),
        )
        rest, result = restored["optimizer"], restored["params"]
        params, ema = (result, None) if target.ema is None else (rest["params"], result)
        return TrainState(rest["step"], params, rest["state"], ema), restored["data"]

    def close(self) -> None:
        """Waits until the last checkpoint is on disk; raises OSError if it could not be saved."""
        with self._saving():
            self._manager.wait_until_finished()
            self._manager.close()

    def _check_arrays(self, step: int, target: TrainState) -> None:
        """Raises ValueError if a checkpoint's arrays differ from the target's in shape or dtype."""
        # Orbax would cast arrays to the target's dtype without a word. Its description of a
        # checkpoint orders arrays in its own way, so they are counted here and not paired.
        for item, tree in (("params", target.result), ("optimizer", _rest(target))):
            folder = self._manager.directory / str(step) / item
            saved = ocp.StandardCheckpointHandler().metadata(folder).tree
            found, wanted = _arrays(saved), _arrays(tree)
            if found != wanted:
                other, own = (" ".join(sorted(part)) for part in (found - wanted, wanted - found))
                raise ValueError(
                    f"checkpoint {step} holds other arrays than this run: {other or 'none'} where "
                    f"the run has {own or 'none'}: start the run in a new --workdir"
                )

    def _check_space(self, args: ocp.args.Composite) -> None:
        """Raises OSError if the disk lacks the space that a checkpoint takes."""
        # Without this check, orbax would fail in several threads and print a traceback of each.
        arrays = jax.tree.leaves([args["params"].item, args["optimizer"].item])
        needed, folder = sum(x.nbytes for x in arrays) + MARGIN_BYTES, self._manager.directory
        free = shutil.disk_usage(folder).free
        if free < needed:
            message = (
                f"no space left for a checkpoint ({needed >> 20} MiB needed, {free >> 20} free); "
                f"{self._kept()}: make room and start the run again"
            )
            raise OSError(errno.ENOSPC, message, str(folder))

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Tells any error of Orbax in one line, which says what is left."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # Orbax raises what TensorStore and its threads raise
            folder = Path(self._manager.directory)
            message = (
                f"a checkpoint could not be saved ({shortened(str(error), folder)}); "
                f"{self._kept()}: see that the disk has room and start the run again"
            )
            code = getattr(error, "errno", None) or errno.EIO
            raise OSError(code, message, str(folder)) from None

    def _kept(self) -> str:
        """Which checkpoint is left if another one cannot be saved."""
        names = (entry.name for entry in Path(self._manager.directory).iterdir())
        steps = [int(name) for name in names if name.isdecimal()]
        return f"the one of step {max(steps)} is whole" if steps else "there is no earlier one"


def _arrays(tree: Any) -> collections.Counter[str]:
    """How many arrays of each dtype and shape a tree has."""
    return collections.Counter(f"{x.dtype}{list(x.shape)}" for x in jax.tree.leaves(tree))


def _rest(state: TrainState) -> dict[str, Any]:
    """The checkpoint item "optimizer"."""
    rest = {"step": state.step, "state": state.opt_state}
    return rest if state.ema is None else rest | {"params": state.params}
