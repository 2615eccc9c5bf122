"""The trainer's checkpoints: weights, optimizer, step and data position, saved as one by orbax."""

import errno
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from train.step import TrainState

# What a checkpoint takes beside its arrays: metadata of every array.
MARGIN_BYTES = 2 << 20


class Checkpointer:
    """Numbered checkpoints under workdir/checkpoints; each appears whole or not at all.

    Items of a checkpoint: "params" (the trained weights, or their running mean if the run has one),
    "optimizer" (its state, the step, and the trained weights beside a running mean), "data" (the
    iterator's state) and "model" (what it takes to build the model; see
    diffusiongemma/formats/orbax.py). Frozen weights are not in it: they are the run's init's.

    Args:
      workdir: the run's folder.
      keep: how many of the latest stay.
      model: JSON-able description of the model, stored with each checkpoint.
    """

    def __init__(self, workdir: Path, keep: int, model: dict[str, Any]):
        self.model = model
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True),
        )

    def latest(self) -> int | None:
        """Steps done in the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: dict[str, Any]) -> None:
        """Saves after step state.step, in the background; the state may be donated at once.

        Raises OSError if the disk has no room for it.
        """
        args = ocp.args.Composite(
            params=ocp.args.StandardSave(state.result),
            optimizer=ocp.args.StandardSave(_rest(state)),
            data=ocp.args.JsonSave(data),
            model=ocp.args.JsonSave(self.model),
        )
        self._manager.wait_until_finished()
        self._check_space(args)
        self._manager.save(int(state.step), args=args)

    def restore(self, step: int, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """(state, data iterator's state) after `step`, in target's structure.

        Arrays go where the target's are, whatever mesh they were saved on. Raises ValueError if one
        of them has another shape or dtype than the target's.
        """
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(target.result),
                optimizer=ocp.args.StandardRestore(_rest(target)),
                data=ocp.args.JsonRestore(),
            ),
        )
        rest, result = restored["optimizer"], restored["params"]
        params, ema = (result, None) if target.ema is None else (rest["params"], result)
        state = TrainState(rest["step"], params, rest["state"], ema)
        for wanted, found in zip(jax.tree.leaves(target), jax.tree.leaves(state), strict=True):
            if jnp.shape(wanted) != jnp.shape(found) or wanted.dtype != found.dtype:
                raise ValueError(
                    f"checkpoint {step} holds {found.dtype}{jnp.shape(found)} where this run has "
                    f"{wanted.dtype}{jnp.shape(wanted)}"
                )
        return state, restored["data"]

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _check_space(self, args: ocp.args.Composite) -> None:
        # Looked at before, for orbax meets a full disk in several threads, loudly.
        arrays = jax.tree.leaves([args["params"].item, args["optimizer"].item])
        needed, folder = sum(x.nbytes for x in arrays) + MARGIN_BYTES, self._manager.directory
        free = shutil.disk_usage(folder).free
        if free < needed:
            message = (
                f"no space left for a checkpoint ({needed >> 20} MiB needed, {free >> 20} free); "
                f"that of step {self.latest()} is whole: make room and start the run again"
            )
            raise OSError(errno.ENOSPC, message, str(folder))


def _rest(state: TrainState) -> dict[str, Any]:
    rest = {"step": state.step, "state": state.opt_state}
    return rest if state.ema is None else rest | {"params": state.params}
