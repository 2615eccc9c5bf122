"""transformers beside this project, on the same random weights, one after the other and again."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from diffusiongemma import save_checkpoint
from diffusiongemma.diffusion import corrupt, noise_levels
from scripts.parts import Inputs, Program, Timing, measure, prefill_program, timed
from train.loss import LossConfig
from train.step import init_state, make_train_step

SCRIPT = Path(__file__).with_name("peer_transformers.py")
RATE = 1e-4  # Adam's, on both sides
SEED = 0


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
        # Waiting threads must not keep the cores from whoever's turn it is.
        environment |= {"OMP_WAIT_POLICY": "PASSIVE", "TRANSFORMERS_VERBOSITY": "error"}
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
    return nnx.merge(inputs.graphdef, state).denoise(inputs.canvas, inputs.cache)


def compare(
    python: str, inputs: Inputs, loop: Program, steps: int, chunk: int, repeats: int, train: bool
) -> dict:
    """Denoising, prefill and, if wanted, SFT steps of both, alternating; medians and ratios."""
    loss, noisy = sft_noise(inputs)
    with Peer(python, inputs, noisy) as peer:
        found = {"about": peer.about, "check": peer.ask("check")}
        found["denoise"] = _alternate(
            loop.run, lambda: peer.ask(f"denoise {steps}"), repeats, steps
        )
        found["prefill"] = _alternate(
            prefill_program(inputs, chunk).run, lambda: peer.ask("prefill"), repeats
        )
        if train:
            step = Trainer(inputs, loss)
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


def sft_noise(inputs: Inputs) -> tuple[LossConfig, jax.Array]:
    """The loss that both compute, and the noisy canvas of its first step.

    Every row gets a soft embedding from a first pass, so that both sides do the same work.
    """
    batch, size = inputs.canvas.shape
    key = jax.random.fold_in(jax.random.key(SEED), 0)
    _, level_key, noise_key = jax.random.split(key, 3)  # as train.loss.sft_loss does
    vocab_size = inputs.model.config.vocab_size
    noisy = corrupt(noise_key, inputs.canvas, noise_levels(level_key, batch), vocab_size)
    return LossConfig(canvas_size=size, self_conditioning=1.0), noisy


class Trainer:
    """An SFT step of all weights on the inputs' tokens and canvas; a call takes one."""

    def __init__(self, inputs: Inputs, loss: LossConfig):
        optimizer = optax.adam(RATE)
        model = nnx.merge(inputs.graphdef, jax.tree.map(jnp.copy, inputs.state))
        graphdef, self._state, self._frozen = init_state(model, optimizer)
        self._step = make_train_step(graphdef, optimizer, loss, SEED)
        rows, length = inputs.tokens.shape
        self._batch = {
            "tokens": jnp.concatenate([inputs.tokens, inputs.canvas], axis=1),
            "prompt_len": jnp.full((rows,), length, jnp.int32),
            "num_canvases": jnp.ones((rows,), jnp.int32),
        }

    def __call__(self) -> jax.Array:
        self._state, metrics = self._step(self._state, self._frozen, self._batch)
        return jax.block_until_ready(metrics["loss"])
