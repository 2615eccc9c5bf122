"""transformers beside this project, on the same random weights, one after the other and again."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from diffusiongemma import save_checkpoint
from scripts.benchmark.step_parts import Inputs, Program, Timing, measure, prefill_program, timed
from scripts.benchmark.train_step import Trainer, first_noise

SCRIPT = Path(__file__).with_name("peer_transformers.py")


class Peer:
    """The process that runs transformers; ask() for what peer_transformers.py lists."""

    def __init__(self, python: str, inputs: Inputs, noisy: jax.Array):
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark")
        folder = Path(self._folder.name)
        dtype = inputs.model.dtype
        save_checkpoint(inputs.model, folder / "hf", format="hf")
        logits = jax.jit(lambda state: _denoise(inputs, state))(inputs.state)
        arrays = {"tokens": inputs.tokens, "canvas": inputs.canvas, "noisy": noisy}
        np.savez(folder / "inputs.npz", logits=logits, **arrays)
        command = [python, str(SCRIPT), str(folder / "hf"), str(folder / "inputs.npz"), dtype.name]
        # Its Python is another: none of this one's folders.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        # Its threads wait for work by spinning: long enough for its speed, and short enough not to
        # keep a core when it is not their turn.
        environment |= {"GOMP_SPINCOUNT": "10000", "TRANSFORMERS_VERBOSITY": "error"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> "Peer":
        self.about = self._answer()
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, line: str) -> dict:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise ValueError("the peer's process ended; its error is above")
        return json.loads(line)


def _denoise(inputs: Inputs, state: nnx.State) -> jax.Array:
    return inputs.structure.merge(state).denoise(inputs.canvas, inputs.cache)


def compare(
    python: str, inputs: Inputs, loop: Program, steps: int, chunk: int, repeats: int, train: bool
) -> dict:
    """Denoising, prefill and, if wanted, SFT steps of both, alternating; medians and ratios."""
    with Peer(python, inputs, first_noise(inputs)) as peer:
        found = {"about": peer.about, "check": peer.ask("check")}
        found["denoise"] = _alternate(
            loop.run, lambda: peer.ask(f"denoise {steps}"), repeats, steps
        )
        found["prefill"] = _alternate(
            prefill_program(inputs, chunk).run, lambda: peer.ask("prefill"), repeats
        )
        if train:
            step = Trainer(inputs)
            first = step(), peer.ask("train")["loss"]
            found["train"] = _alternate(step, lambda: peer.ask("train"), repeats)
            found["train"]["first losses"] = [float(x) for x in first]
    return found


def _alternate(ours: Callable, theirs: Callable[[], dict], repeats: int, per: int = 1) -> dict:
    """Both in turn; `per`: what our call counts for, as theirs answers for one."""
    measure(ours, 1)
    theirs()
    pairs = [(timed(ours) / per, theirs()["seconds"]) for _ in range(repeats)]
    ours, theirs = (Timing(seconds) for seconds in zip(*pairs, strict=True))
    ratios = Timing(tuple(b / a for a, b in pairs))
    return {
        "ours_ms": ours.figures(1e3),
        "theirs_ms": theirs.figures(1e3),
        "ratio": theirs.median / ours.median,
        "ratios": ratios.figures(),
    }
