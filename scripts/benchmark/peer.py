"""transformers beside this project: the same random weights, measured in turn."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusiongemma import save_checkpoint
from diffusiongemma.attention import KVCache
from sample.split_model import SplitModel
from scripts.benchmark.inputs import Inputs
from scripts.benchmark.step_parts import prefill_program
from scripts.benchmark.timing import Program, Settings, Timing, measure, timed
from scripts.benchmark.train_step import Trainer, first_noise

SCRIPT = Path(__file__).with_name("peer_transformers.py")


class Peer:
    """The process that runs transformers. Use it as a context: leaving it ends the process.

    Attributes:
      about: what peer_transformers.py says about itself.

    Args:
      python: a Python that has torch and transformers.
      inputs: the model, which is saved for the peer, and its tokens.
      noisy: [B, C] int32, the canvas of the first training step.
    """

    about: dict[str, Any]

    def __init__(self, python: str, inputs: Inputs, noisy: jax.Array):
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark")
        folder = Path(self._folder.name)
        dtype = inputs.model.dtype
        save_checkpoint(inputs.model, folder / "hf", format="hf")
        logits = _denoise(inputs.split, inputs.canvas, inputs.cache)
        arrays = {"tokens": inputs.tokens, "canvas": inputs.canvas, "noisy": noisy}
        np.savez(folder / "inputs.npz", logits=logits, **arrays)
        command = [python, str(SCRIPT), str(folder / "hf"), str(folder / "inputs.npz"), dtype.name]
        # The peer's Python must not find the folders of this one.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        # The peer's threads wait for work by spinning. This is long enough for its speed, and short
        # enough not to keep a core busy when it is not its turn.
        environment |= {"GOMP_SPINCOUNT": "10000", "TRANSFORMERS_VERBOSITY": "error"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> "Peer":
        self.about = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, line: str) -> dict[str, Any]:
        """The answer to one of the requests that peer_transformers.py lists.

        Raises:
          ValueError: the process ended; its error is on stderr.
        """
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise ValueError("the peer's process ended; its error is above")
        return json.loads(line)


@jax.jit
def _denoise(split: SplitModel, canvas: jax.Array, cache: KVCache) -> jax.Array:
    return split.merge().denoise(canvas, cache)


def compare(
    python: str, inputs: Inputs, loop: Program, settings: Settings, train: bool
) -> dict[str, Any]:
    """Measures denoising, prefill and, if wanted, training steps of both sides in turn.

    Args:
      python: a Python that has torch and transformers.
      inputs: the model and its tokens.
      loop: this project's denoising loop of settings.steps steps.
      settings: how both sides run.
      train: whether to measure training steps too.

    Returns:
      "about" and "check" of peer_transformers.py, and for "denoise", "prefill" and "train" the
      figures of _alternate.
    """
    repeats = settings.repeats
    prefill = prefill_program(inputs, settings.prefill_chunk)
    with Peer(python, inputs, first_noise(inputs)) as peer:
        found = {"about": peer.about, "check": peer.ask("check")}
        found["denoise"] = _alternate(
            loop.run, lambda: peer.ask(f"denoise {settings.steps}"), repeats, settings.steps
        )
        found["prefill"] = _alternate(prefill.run, lambda: peer.ask("prefill"), repeats)
        if train:
            step = Trainer(inputs)
            first = step(), peer.ask("train")["loss"]
            found["train"] = _alternate(step, lambda: peer.ask("train"), repeats)
            found["train"]["first losses"] = [float(x) for x in first]
    return found


def _alternate(
    ours: Callable[[], Any], theirs: Callable[[], dict[str, Any]], repeats: int, per: int = 1
) -> dict[str, Any]:
    """Calls both sides in turn.

    Args:
      ours: this project's call.
      theirs: the peer's call; its answer has the "seconds" of one step.
      per: how many steps one call of ours takes.

    Returns:
      Timing.figures of "ours_ms", "theirs_ms" and "ratios" (theirs over ours in the same turn),
      and "ratio", that of the medians.
    """
    measure(ours, 1)
    theirs()
    pairs = [(timed(ours) / per, theirs()["seconds"]) for _ in range(repeats)]
    our_times, their_times = (Timing(seconds) for seconds in zip(*pairs, strict=True))
    ratios = Timing(tuple(b / a for a, b in pairs))
    return {
        "ours_ms": our_times.figures(1e3),
        "theirs_ms": their_times.figures(1e3),
        "ratio": their_times.median / our_times.median,
        "ratios": ratios.figures(),
    }
