"""One side of scripts.compare_checkouts: it runs in a checkout and answers requests.

    PYTHONPATH=CHECKOUT python probe.py

A request is a line of JSON on stdin, {"ask": NAME, ...arguments}; the answer is a line of JSON on
stdout. Of the checkout's names only those in NAMES may differ between two checkouts.

    generate       samples a checkpoint for prompts in a file, and writes all arrays to another file
    convert        converts a checkpoint
    denoise        seconds of one denoising step of the preset "small"
    train          seconds of one training step of the preset "small"
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma import ModelConfig, load_checkpoint
from sample import AutoregressiveConfig, SamplerConfig, generate, generate_autoregressive

# What is needed -> the modules that may have it, the newest first.
NAMES = {
    "convert_checkpoint": ("diffusiongemma.formats.load_save", "diffusiongemma.checkpoint"),
    "make_inputs": ("scripts.benchmark.inputs", "scripts.parts"),
    "random_model": ("scripts.benchmark.inputs", "scripts.parts"),
    "step_programs": ("scripts.benchmark.step_parts", "scripts.parts"),
    "Trainer": ("scripts.benchmark.train_step", "scripts.sft"),
}
CONTEXT, BATCH, STEPS = 116, 4, 8  # of the timed steps


def find(name: str) -> Any:
    """An object of this checkout by its name in NAMES.

    Raises:
      ModuleNotFoundError: no module has it, or a module that should have it cannot be imported.
    """
    for module in NAMES[name]:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise  # the module is there, and something that it imports is not
            continue
        if found is not None:
            return found
    raise ModuleNotFoundError(f"{name} is neither in {' nor in '.join(NAMES[name])}")


class Probe:
    """Answers requests; what is compiled for a timing is kept."""

    def __init__(self) -> None:
        self._programs: dict[str, Callable[[], Any]] = {}

    def generate(self, checkpoint: str, inputs: str, outputs: str, sampler: dict) -> dict:
        """Canvas by canvas with every step recorded, then left to right, drawn and greedy.

        Args:
          checkpoint: a folder.
          inputs: .npz with tokens [B, P] int32 and mask [B, P] bool.
          outputs: the .npz to write.
          sampler: fields of SamplerConfig.
        """
        model = load_checkpoint(checkpoint)
        given = np.load(inputs)
        prompts = given["tokens"], given["mask"], jax.random.key(0)
        config = SamplerConfig(**(sampler | {"trajectory": True}))
        out = generate(model, *prompts, config)._asdict()
        # With one start there is no array of all starts.
        found = {f"diffusion {k}": v for k, v in out.items() if v is not None}
        new = sampler.get("max_new_tokens") or 32
        for name, temperature in (("drawn", 1.0), ("greedy", 0.0)):
            config = AutoregressiveConfig(max_new_tokens=new, temperature=temperature)
            out = generate_autoregressive(model, *prompts, config)
            found |= {f"left to right, {name}: {k}": v for k, v in out._asdict().items()}
        np.savez(outputs, **found)
        return {}

    def convert(self, source: str, target: str, format: str, **options: Any) -> dict:
        """Writes a checkpoint in another format; the options are those of convert_checkpoint."""
        find("convert_checkpoint")(source, target, format, **options)
        return {}

    def denoise(self) -> dict:
        return {"seconds": self._timed("denoise") / STEPS}

    def train(self) -> dict:
        return {"seconds": self._timed("train")}

    def _timed(self, name: str) -> float:
        if name not in self._programs:
            model = find("random_model")(ModelConfig.preset("small"), jnp.float32)
            inputs = find("make_inputs")(model, BATCH, CONTEXT, CONTEXT)
            if name == "train":
                self._programs[name] = find("Trainer")(inputs)
            else:
                [loop] = find("step_programs")(inputs, STEPS, "steps")
                self._programs[name] = loop.run
        started = time.perf_counter()
        jax.block_until_ready(self._programs[name]())
        return time.perf_counter() - started


def main() -> None:
    # Libraries print to stdout; that must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    probe = Probe()
    for line in sys.stdin:
        arguments = json.loads(line)
        answer = getattr(probe, arguments.pop("ask"))(**arguments)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
