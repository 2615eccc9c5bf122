"""How fast a canvas is denoised, how near that is to what the machine can do, and where time goes.

    python -m scripts.benchmark --preset=small --out=DIR
    python -m scripts.benchmark --preset=26b_a4b --dtype=bfloat16 --context=4096 --out=DIR
    python -m scripts.benchmark --preset=26b_a4b --quantize=int8 --context=4096 --out=DIR
    python -m scripts.benchmark --preset=medium --peer=transformers --peer_python=PYTHON --train
    python -m scripts.benchmark --preset=medium --experts=8,32,128

Weights are random and made on the device. A step's time is that of the sampler's own compiled loop,
over its steps; parts are timed as programs of their own (step_parts.py). Figures are medians of
--repeats, with the fastest and the slowest; compile times are without a cache on disk. --peer runs
transformers on the same weights in turn, with the Python that has it and torch. In --out:
benchmark.json and benchmark.png.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.backend import set_backend
from diffusiongemma.formats.atomic_folder import write_files
from diffusiongemma.quantized_model import create_quantized
from sample import cli
from sample.statistics import peak_memory
from scripts.benchmark import peer, step_parts, train_step
from scripts.benchmark.report import plot, table

FACTS = ("preset", "dtype", "quantize", "batch", "context", "backend", "steps", "repeats")


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("preset", "small", "The model's shape.", flag_values=values)
    dtypes = ["float32", "bfloat16"]
    flags.DEFINE_enum("dtype", "float32", dtypes, "Of what is not quantized.", flag_values=values)
    flags.DEFINE_enum("quantize", None, ["int8", "int4"], "Weights.", flag_values=values)
    backends = ["reference", "loop", "pallas"]
    help = "Of experts, attention and head; default: the platform's."
    flags.DEFINE_enum("backend", None, backends, help, flag_values=values)
    for name, default, help in (
        ("batch", 1, "Rows."),
        ("context", 256, "Tokens in the cache."),
        ("prefill_chunk", 2048, "Tokens read at a time."),
        ("steps", 8, "Denoising steps of a canvas."),
        ("repeats", 7, "Of every measurement."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    help = "Tokens per forward, for tokens a second; default: the technical report's."
    flags.DEFINE_float("tpf", 19.74, help, flag_values=values)
    help = "Also the MoE part with each of these numbers of experts."
    flags.DEFINE_list("experts", [], help, flag_values=values)
    flags.DEFINE_enum("peer", None, ["transformers"], "Beside what.", flag_values=values)
    flags.DEFINE_string("peer_python", None, "Its Python.", flag_values=values)
    flags.DEFINE_boolean("train", False, "With --peer: SFT steps too.", flag_values=values)
    help = "The parts of a step too, and the experts it touches; else all are counted."
    flags.DEFINE_boolean("parts", True, help, flag_values=values)
    help = "Also an SFT step of LoRA factors of this rank."
    flags.DEFINE_integer("lora", 0, help, lower_bound=0, flag_values=values)
    flags.DEFINE_string("out", None, "A folder for JSON and plot.", flag_values=values)
    return values


def make_model(config: ModelConfig, values: flags.FlagValues) -> DiffusionGemma:
    dtype = jnp.dtype(values.dtype)
    if values.quantize:
        model = create_quantized(config, 0, values.quantize, dtype)
    else:
        model = step_parts.random_model(config, dtype)
    set_backend(model, values.backend)
    return model


def benchmark(config: ModelConfig, values: flags.FlagValues) -> dict[str, Any]:
    """Everything that the flags ask for, ready for JSON; times in ms."""
    repeats, batch = values.repeats, values.batch
    found: dict[str, Any] = {"device": cli.device_line()}
    found |= {name: values[name].value for name in FACTS}
    found["copy_gb_s"] = step_parts.copy_bandwidth() / 1e9
    found["matmul_gflop_s"] = step_parts.matmul_rate(jnp.dtype(values.dtype)) / 1e9
    inputs = step_parts.make_inputs(
        make_model(config, values), batch, values.context, values.prefill_chunk
    )
    found["weights_gb"] = sum(x.nbytes for x in jax.tree.leaves(inputs.state)) / 1e9
    only = None if values.parts else "steps"
    loop, *programs = step_parts.step_programs(inputs, values.steps, only)
    timing = step_parts.measure(loop.run, repeats)
    step = timing.median / values.steps
    found["step_ms"] = timing.figures(1e3 / values.steps)
    found["parts_ms"] = {p.name: step_parts.measure(p.run, repeats).figures(1e3) for p in programs}
    found["compile_s"] = {p.name: p.compile_seconds for p in (loop, *programs)}
    found["temporaries_mb"] = {p.name: p.temporaries / 1e6 for p in (loop, *programs)}
    touched = step_parts.touched_experts(inputs) if values.parts else None
    found["experts_touched"] = touched
    found["floor_gb"] = step_parts.floor_bytes(inputs, touched) / 1e9
    found["floor_gflop"] = step_parts.floor_flops(config, batch) / 1e9
    found["floor_ms"] = found["floor_gb"] / found["copy_gb_s"] * 1e3
    found["arithmetic_ms"] = found["floor_gflop"] / found["matmul_gflop_s"] * 1e3
    found["ratio_to_floor"] = step * 1e3 / max(found["floor_ms"], found["arithmetic_ms"])
    found["tpf"] = values.tpf
    found["tokens_s"] = batch * values.tpf / step
    prefill = step_parts.measure(
        step_parts.prefill_program(inputs, values.prefill_chunk).run, repeats
    )
    found["prefill_ms"] = prefill.figures(1e3)
    found["prefill_tokens_s"] = batch * values.context / prefill.median
    if values.lora:
        trainer = train_step.Trainer(inputs, values.lora)
        found["lora_step_ms"] = step_parts.measure(trainer, repeats).figures(1e3)
    found["peak_gb"] = peak_memory()[1] / 1e9
    if values.experts:
        found["moe_by_experts_ms"] = _by_experts(config, values)
    if values.peer:
        found["peer"] = peer.compare(
            values.peer_python,
            inputs,
            loop,
            values.steps,
            values.prefill_chunk,
            repeats,
            values.train,
        )
    return found


def _by_experts(config: ModelConfig, values: flags.FlagValues) -> dict[str, dict[str, float]]:
    """The MoE part as it is computed, and as every expert on every row, by numbers of experts."""
    found = {}
    for num_experts in map(int, values.experts):
        shape = dataclasses.replace(config, num_experts=num_experts)
        row = {}
        for backend in (values.backend, "reference"):
            model = make_model(shape, values)
            set_backend(model, backend)
            inputs = step_parts.make_inputs(model, values.batch, 1, values.prefill_chunk)
            [program] = step_parts.step_programs(inputs, 1, only="moe")
            name = "every expert" if backend == "reference" else "routed"
            row[name] = step_parts.measure(program.run, values.repeats).median * 1e3
        found[str(num_experts)] = row
    return found


def main(argv: list[str]) -> int:
    values = define_flags()

    def run() -> None:
        config = ModelConfig.preset(values.preset)
        if values.peer and not values.peer_python:
            raise ValueError(
                "--peer needs --peer_python=PATH, a Python with torch and transformers"
            )
        if values.peer and values.quantize:
            raise ValueError("--peer has no --quantize: transformers would read other weights")
        if values.train and not values.peer:
            raise ValueError("--train needs --peer")
        if not all(n.isdecimal() and int(n) >= config.top_k for n in values.experts):
            raise ValueError(f"--experts takes whole numbers from top_k, {config.top_k}, up")
        if values.out:
            cli.check_out(Path(values.out))
        found = benchmark(config, values)
        print(table(found))
        if values.out:
            files = {"benchmark.json": json.dumps(found, indent=1).encode() + b"\n"}
            write_files(Path(values.out), files | {"benchmark.png": plot(found)})

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
