"""A denoising step and its parts as compiled programs."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffusiongemma import DiffusionGemma, head
from diffusiongemma.attention import KVCache, denoise_contexts
from diffusiongemma.head import DrawNoise, Prediction
from sample.prefill import prefill
from sample.sampler import denoise_canvas
from sample.split_model import SplitModel
from sample.step import SamplerConfig, Step, entropy_bound_rule, propose
from scripts.benchmark.inputs import Inputs
from scripts.benchmark.timing import Program


def step_programs(inputs: Inputs, steps: int, only: str | None = None) -> list[Program]:
    """The sampler's own loop, and the parts of one of its steps.

    "steps" is the loop of all denoising steps. "layers" goes from tokens to the final norm, without
    the head. "attention" and "moe" are these modules of all layers, one after another on the
    residual stream. "head + sampling" starts from the last hidden states.

    Args:
      inputs: the model and the arguments of its step.
      steps: denoising steps of the loop.
      only: the name of one program; None for all.
    """
    split, cache, canvas = inputs.split, inputs.cache, inputs.canvas
    config = inputs.model.config
    sampler = SamplerConfig(
        max_steps=steps, early_stop=False, canvas_size=canvas.shape[1], stop_ids=()
    )
    done = jnp.zeros(canvas.shape[:1], bool)

    def loop() -> Program:
        rest = inputs.keys, done, 0, canvas.shape[1], sampler
        return _compiled("steps", denoise_canvas, split, cache, *rest)

    def part(name: str, function: Callable[..., Any], *args: Any) -> Program:
        def run(split: SplitModel, *args: Any) -> Any:
            return function(split.merge(), *args)

        return _compiled(name, jax.jit(run), split, *args)

    def layers(
        model: DiffusionGemma, canvas: jax.Array, cache: KVCache, soft: jax.Array
    ) -> jax.Array:
        return model.canvas_states(canvas, cache, soft)

    def attention(model: DiffusionGemma, x: jax.Array, cache: KVCache) -> jax.Array:
        contexts = denoise_contexts(config, cache, *canvas.shape)
        for kind, block, kept in zip(config.layer_types, model.layers, cache.layers, strict=True):
            x = x + block.attention(block.pre_attention_norm(x), kept, contexts[kind])[0]
        return x

    def moe(model: DiffusionGemma, x: jax.Array) -> jax.Array:
        for block in model.layers:
            x = x + block.moe(block.pre_moe_norm(x), residual=x)
        return x

    def sampling(
        model: DiffusionGemma, x: jax.Array, canvas: jax.Array, soft: jax.Array, keys: jax.Array
    ) -> Step:
        return entropy_bound_rule(propose(_Head(model, x), None, canvas, soft, 1, keys, sampler))

    made = {
        "steps": loop,
        "layers": lambda: part("layers", layers, canvas, cache, inputs.soft),
        "attention": lambda: part("attention", attention, inputs.soft, cache),
        "moe": lambda: part("moe", moe, inputs.soft),
        "head + sampling": lambda: part(
            "head + sampling", sampling, inputs.soft, canvas, inputs.soft, inputs.keys
        ),
    }
    return [make() for name, make in made.items() if only in (None, name)]


class _Head:
    """Stands for a model in propose, and has its head alone, on given hidden states."""

    def __init__(self, model: DiffusionGemma, hidden: jax.Array):
        self.config, self._backend = model.config, model.backend
        self._table = model.embedder.embedding[...]
        self._hidden = hidden

    def predict(
        self,
        canvas: jax.Array,
        cache: None,
        soft: jax.Array,
        temperature: float,
        noise: DrawNoise,
    ) -> Prediction:
        cap, backend = self.config.softcap, self._backend
        return head.predict(self._hidden, self._table, cap, temperature, noise, backend=backend)


def prefill_program(inputs: Inputs, chunk: int) -> Program:
    """Reads the whole context into an empty cache. Its first call compiles it."""
    real = jnp.ones(inputs.tokens.shape, bool)
    length = inputs.tokens.shape[1]

    def run() -> KVCache:
        return prefill(inputs.split, inputs.tokens, real, length, chunk)

    return Program("prefill", run, 0.0, 0)


def _compiled(name: str, function: jax.stages.Wrapped, *args: Any) -> Program:
    started = time.perf_counter()
    compiled = function.lower(*args).compile()
    seconds = time.perf_counter() - started
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return Program(name, lambda: function(*args), seconds, temporaries)
