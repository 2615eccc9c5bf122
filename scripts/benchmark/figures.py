"""The measurements that scripts.benchmark makes."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.backend import Backend, set_backend
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.quantized_model import create_quantized
from sample import cli
from sample.statistics import peak_memory
from scripts.benchmark import floor, peer
from scripts.benchmark.inputs import Inputs, make_inputs, random_model
from scripts.benchmark.step_parts import prefill_program, step_programs
from scripts.benchmark.timing import Program, Settings, measure
from scripts.benchmark.train_step import Trainer

FACTS = ("preset", "dtype", "quantize", "batch", "context", "backend", "steps", "repeats")


class Subject(NamedTuple):
    """The model that is measured, and its inputs.

    Attributes:
      preset: name of the model's shape.
      config: the model's shape.
      dtype: dtype of the weights that are not quantized.
      quantize: precision of quantized weights; None if they are not.
      batch: B, rows.
      context: P, tokens in the KV cache.
      backend: how experts, attention and head are computed; None for the platform's way.
    """

    preset: str
    config: ModelConfig
    dtype: str
    quantize: Precision | None
    batch: int
    context: int
    backend: Backend | None

    def make_model(self) -> DiffusionGemma:
        """The model with random weights."""
        dtype = jnp.dtype(self.dtype)
        if self.quantize:
            model = create_quantized(self.config, 0, self.quantize, dtype)
        else:
            model = random_model(self.config, dtype)
        set_backend(model, self.backend)
        return model


class Extras(NamedTuple):
    """What is measured beside the step and prefill.

    Attributes:
      parts: the parts of a step, and the number of experts that it touches.
      lora: rank of the LoRA factors of a training step; 0 for no training step.
      experts: numbers of experts with which the MoE part is measured too.
      peer_python: a Python with torch and transformers, to measure beside; None for no peer.
      train: training steps of both sides, with a peer.
    """

    parts: bool
    lora: int
    experts: list[int]
    peer_python: str | None
    train: bool


def benchmark(
    subject: Subject, settings: Settings, extras: Extras, tokens_per_forward: float
) -> dict[str, Any]:
    """Makes all measurements.

    Args:
      subject: the model and its inputs.
      settings: how the steps are run.
      extras: what is measured beside the step and prefill.
      tokens_per_forward: tokens that one denoising step stands for, for tokens a second.

    Returns:
      The figures by name, ready for JSON. The end of a name is its unit: times in ms and s, memory
      in MB and GB (10^6 and 10^9 bytes).
    """
    facts = subject._asdict() | settings._asdict()
    found: dict[str, Any] = {"device": cli.device_line()} | {name: facts[name] for name in FACTS}
    found["copy_gb_s"] = floor.copy_bandwidth() / 1e9
    found["matmul_gflop_s"] = floor.matmul_rate(jnp.dtype(subject.dtype)) / 1e9
    inputs = make_inputs(
        subject.make_model(), subject.batch, subject.context, settings.prefill_chunk
    )
    found["weights_gb"] = sum(x.nbytes for x in jax.tree.leaves(inputs.split)) / 1e9
    only = None if extras.parts else "steps"
    loop, *parts = step_programs(inputs, settings.steps, only)
    found |= _of_step(loop, parts, settings)
    step_ms = found["step_ms"]["median"]
    found |= _of_floor(inputs, extras.parts, found["copy_gb_s"], found["matmul_gflop_s"])
    found["ratio_to_floor"] = step_ms / max(found["floor_ms"], found["arithmetic_ms"])
    found["tpf"] = tokens_per_forward
    found["tokens_s"] = subject.batch * tokens_per_forward / step_ms * 1e3
    prefill = measure(prefill_program(inputs, settings.prefill_chunk).run, settings.repeats)
    found["prefill_ms"] = prefill.figures(1e3)
    found["prefill_tokens_s"] = subject.batch * subject.context / prefill.median
    if extras.lora:
        trainer = Trainer(inputs, extras.lora)
        found["lora_step_ms"] = measure(trainer, settings.repeats).figures(1e3)
    found["peak_gb"] = peak_memory()[1] / 1e9
    if extras.experts:
        found["moe_by_experts_ms"] = {
            str(num): _moe_times(subject, num, settings) for num in extras.experts
        }
    if extras.peer_python:
        found["peer"] = peer.compare(extras.peer_python, inputs, loop, settings, extras.train)
    return found


def _of_step(loop: Program, parts: list[Program], settings: Settings) -> dict[str, Any]:
    """Times and memory of a denoising step and of its parts."""
    timing = measure(loop.run, settings.repeats)
    return {
        "step_ms": timing.figures(1e3 / settings.steps),
        "parts_ms": {p.name: measure(p.run, settings.repeats).figures(1e3) for p in parts},
        "compile_s": {p.name: p.compile_seconds for p in (loop, *parts)},
        "temporaries_mb": {p.name: p.temporaries / 1e6 for p in (loop, *parts)},
    }


def _of_floor(inputs: Inputs, count: bool, copy_gb_s: float, gflop_s: float) -> dict[str, Any]:
    """The least time of a step, by bytes and by arithmetic.

    Args:
      count: whether to count the experts that the step touches; if not, all are counted in.
    """
    touched = floor.touched_experts(inputs) if count else None
    gigabytes = floor.floor_bytes(inputs, touched) / 1e9
    gflop = floor.floor_flops(inputs.model.config, inputs.canvas.shape[0]) / 1e9
    return {
        "experts_touched": touched,
        "floor_gb": gigabytes,
        "floor_gflop": gflop,
        "floor_ms": gigabytes / copy_gb_s * 1e3,
        "arithmetic_ms": gflop / gflop_s * 1e3,
    }


def _moe_times(subject: Subject, num_experts: int, settings: Settings) -> dict[str, float]:
    """Milliseconds of the MoE part: "routed", and "every expert" on every row."""
    shape = dataclasses.replace(subject.config, num_experts=num_experts)
    found = {}
    for name, backend in (("routed", subject.backend), ("every expert", "reference")):
        model = subject._replace(config=shape, backend=backend).make_model()
        inputs = make_inputs(model, subject.batch, 1, settings.prefill_chunk)
        [program] = step_programs(inputs, 1, only="moe")
        found[name] = measure(program.run, settings.repeats).median * 1e3
    return found
