"""Measures how often a number at the start of a long prompt is found, in what time and memory.

    python -m scripts.long_context --checkpoint=runs/needle_16k --lengths=1024,4096,16384,65536 \\
        --out=docs/long_context

The prompts are held-out items of data/tasks/needle.py with exactly these lengths in tokens, and are
answered one at a time. Each length runs in a process of its own, so that its peak memory is its
own. --out gets REPORT.md, results.json and long_context.png.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags
from tqdm import tqdm

from data.measures import wilson
from data.tasks.needle import NeedleSource
from data.text.chat_template import ChatTemplate
from diffusiongemma import DiffusionGemma
from diffusiongemma.attention import KVCache
from files.whole_file import write_files
from sample import AutoregressiveConfig, cli
from sample.checkpoint import Checkpoint
from sample.command.flags import SAMPLER
from sample.command.prompt_rows import from_text
from sample.command.session import Session
from sample.config_flags import define_fields, given_fields
from sample.statistics import peak_memory
from sample.step import SamplerConfig
from train import plots
from train.markdown import document, shell, table

RECORDED = ("trajectory", "candidates")
SAMPLER_FLAGS = [name for name in SAMPLER if name not in ("max_new_tokens", *RECORDED)]
PEAK, FULL, SLIDING = "peak memory", "KV cache, full layers", "KV cache, sliding layers"
NOTES = (
    "The prompts are drawn for this measurement. The number stands at their start and the question "
    "at their end; in between, one word in 25 has a number of its own. Brackets: 95 % Wilson "
    "intervals.",
    "Prefill and generation are times without compilation, means over prompts answered one at a "
    "time.",
    "Peak memory is that of the process for this length, with Python, compiler and weights; on a "
    "GPU, that of the device. KV cache is the memory of the cache's arrays, which prefill fills.",
)


def measure(
    model: DiffusionGemma,
    template: ChatTemplate,
    items: list[dict[str, str]],
    sampler: SamplerConfig,
    seed: int,
) -> dict[str, Any]:
    """Answers prompts of one length, one after another, with one canvas each.

    Args:
      model: its vocabulary covers that of the template's tokenizer.
      template: turns questions into prompts.
      items: items of a NeedleSource.
      sampler: settings of the sampler.
      seed: random seed of the sampler's noise.

    Returns:
      "length": tokens of a prompt. "exact": {"rate", "low", "high", "count"}. "prefill_seconds": of
      one prompt. "tokens_per_second": after prefill. "effective_steps". "bytes": of PEAK, FULL and
      SLIDING.

    Raises:
      ValueError: the prompts have different lengths, or do not fit the model's context.
    """
    canvas = sampler.canvas_size or model.config.canvas_size
    plain = AutoregressiveConfig(max_new_tokens=canvas)
    session = Session(model, template.tokenizer, template, sampler, plain, seed=seed)
    requests = [session.request(from_text(item["prompt"])) for item in items]
    lengths = {len(request.tokens) for request in requests}
    if len(lengths) > 1:
        raise ValueError("prompts of different lengths: the tokenizer is not this project's")
    [length] = lengths
    cache = jax.eval_shape(lambda: model.init_cache(1, length))  # as generate makes it
    sizes = {FULL: _bytes(model, cache, "full"), SLIDING: _bytes(model, cache, "sliding")}
    right = 0
    for request, item in zip(requests, tqdm(items, f"{length} tokens", unit="prompt"), strict=True):
        [answer] = session.answer([request])
        right += answer.turn.answer == item["answer"]
    low, high = wilson(right, len(items))
    figures = session.statistics["diffusion"].figures()
    return {
        "length": length,
        "exact": {"rate": right / len(items), "low": low, "high": high, "count": len(items)},
        "prefill_seconds": figures["prefill_seconds"] / len(items),
        "tokens_per_second": figures["tokens_per_second"],
        "effective_steps": figures["effective_steps"],
        "bytes": {PEAK: peak_memory()[1], **sizes},
    }


def _bytes(model: DiffusionGemma, cache: KVCache, layer_type: str) -> int:
    """Bytes of the cache in all layers of a type."""
    layers = zip(model.config.layer_types, cache.layers, strict=True)
    arrays = [array for kind, layer in layers for array in layer if kind == layer_type]
    return sum(array.size * array.dtype.itemsize for array in arrays)


def define_flags() -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    for name, help in (
        ("checkpoint", "Folder of a checkpoint or an adapter, or a training run's workdir."),
        ("base", "Folder of an adapter's base. Default: the folder that the adapter names."),
        ("out", "Folder for the report."),
    ):
        flags.DEFINE_string(name, None, help, flag_values=values)
    help = "Lengths of the prompts, in tokens."
    flags.DEFINE_list("lengths", ["1024", "4096", "16384", "65536"], help, flag_values=values)
    help = "Number of prompts of each length."
    flags.DEFINE_integer("prompts", 8, help, lower_bound=1, flag_values=values)
    help = "Random seed of the prompts and of the sampler's noise."
    cli.define_seed(values, 0, help)
    help = "Measure this length in this process, and print the figures as JSON."
    flags.DEFINE_integer("only", None, help, lower_bound=1, flag_values=values)
    define_fields(values, SamplerConfig, SAMPLER_FLAGS)
    return values


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = define_flags()
    return cli.run(values, lambda: _run(values, argv), argv, __doc__)


def _run(values: flags.FlagValues, argv: list[str]) -> int:
    if not values.checkpoint or not values.out:
        raise ValueError("--checkpoint=DIR and --out=DIR are needed")
    out, checkpoint = Path(values.out), Checkpoint.open(values.checkpoint, values.base)
    sampler = SamplerConfig(**given_fields(values, SAMPLER_FLAGS))
    if values.only:
        print(json.dumps(_measure_only(values, checkpoint, sampler)))
        return 0
    cli.check_out(out)
    config = checkpoint.config
    lengths = _lengths(values, config.max_length - (sampler.canvas_size or config.canvas_size))
    rows = []
    for length in lengths:
        command = [sys.executable, "-m", "scripts.long_context", *argv[1:], f"--only={length}"]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if child.returncode:
            return child.returncode  # the child has printed its error
        rows.append(json.loads(child.stdout))
    results = {
        "command": shlex.join(["python", "-m", "scripts.long_context", *argv[1:]]),
        "checkpoint": str(checkpoint.folder),
        "seed": values.seed,
        "sampler": dataclasses.asdict(sampler),
        "window": config.window,
        "rows": rows,
    }
    files = {
        "long_context.png": plots.length_plot(rows),
        "results.json": (json.dumps(results, indent=2) + "\n").encode(),
        "REPORT.md": _report(results),
    }
    write_files(out, files)
    print(f"{_table(rows)}\nwrote {out / 'REPORT.md'}")
    return 0


def _lengths(values: flags.FlagValues, room: int) -> list[int]:
    """The lengths that the flags ask for, ascending.

    Args:
      room: tokens of the longest prompt that the model's context has room for.

    Raises:
      ValueError: something else than numbers, or a length that is too short or too long.
    """
    if not all(text.isdecimal() for text in values.lengths) or not values.lengths:
        raise ValueError(f"--lengths={','.join(values.lengths)}: expected numbers of tokens")
    lengths = sorted({int(text) for text in values.lengths})
    if lengths[-1] > room:
        raise ValueError(
            f"{lengths[-1]} tokens and a canvas exceed the model's context: at most {room}"
        )
    for length in lengths:
        _source(values, length)
    return lengths


def _source(values: flags.FlagValues, length: int) -> NeedleSource:
    """Held-out prompts of a length. They have odd seeds; training takes even ones."""
    return NeedleSource(2 * values.seed + 1, values.prompts, length, length, anywhere=False)


def _measure_only(
    values: flags.FlagValues, checkpoint: Checkpoint, sampler: SamplerConfig
) -> dict[str, Any]:
    """The figures of the one length that --only names."""
    model, template = checkpoint.load(), checkpoint.template
    source = _source(values, values.only)
    items = [source[i] for i in range(len(source))]
    return measure(model, template, items, sampler, values.seed) | {"device": cli.device_line()}


def _report(results: dict[str, Any]) -> bytes:
    rows = results["rows"]
    return document(
        [
            "# A number at the start of a long prompt",
            _table(rows),
            "![Share of prompts answered right, and memory, against the prompt's length]"
            "(long_context.png)",
            f"Sliding layers see {results['window']} tokens. {rows[0]['device']}.",
            shell(results["command"]),
            "\n".join(f"- {note}" for note in NOTES),
        ]
    )


def _table(rows: list[dict[str, Any]]) -> str:
    header = ["prompt tokens", "found exactly", "prefill", "prefill tokens/s"]
    header += ["generation tokens/s", *rows[0]["bytes"]]
    lines = []
    for row in rows:
        exact, seconds = row["exact"], row["prefill_seconds"]
        share, low, high = (100 * exact[name] for name in ("rate", "low", "high"))
        cells = [
            f"{row['length']:,}",
            f"{share:.1f} % [{low:.1f}, {high:.1f}] of {exact['count']}",
            f"{seconds:.2f} s",
            f"{row['length'] / seconds:,.0f}",
            f"{row['tokens_per_second']:.1f}",
            *(f"{size / 1e6:,.2f} MB" for size in row["bytes"].values()),
        ]
        lines.append(cells)
    return table(header, lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
