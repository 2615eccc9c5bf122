"""A number at the start of long prompts: whether it is found, in what time and memory.

    python -m scripts.long_context --checkpoint=runs/needle_16k --lengths=1024,4096,16384,65536 \\
        --out=docs/long_context

Held-out prompts of data/tasks/needle.py, of exactly these lengths in tokens, one at a time. Every
length has a process of its own, so that its peak memory is its own. Writes REPORT.md with a plot,
and results.json, to --out.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from data.metrics import wilson
from data.tasks.needle import NeedleSource
from data.text.chat import split_turn
from data.text.chat_template import ChatTemplate
from diffusiongemma import DiffusionGemma
from diffusiongemma.attention import KVCache
from sample import cli
from sample.checkpoint import Checkpoint
from sample.command.flags import SAMPLER
from sample.config_flags import define_fields, given_fields
from sample.sampler import generate
from sample.split_model import SplitModel
from sample.statistics import Statistics, peak_memory
from sample.step import SamplerConfig
from sample.timing import Clock
from train import plots

SAMPLER_FLAGS = [name for name in SAMPLER if name not in ("max_new_tokens", "trajectory")]
PEAK, FULL, SLIDING = "peak memory", "KV cache, full layers", "KV cache, sliding layers"
NOTE = """\
- Prompts are drawn for this measurement. The number stands at their start, the question at their
  end; in between, a word in 25 has a number of its own. In brackets: 95 % Wilson intervals.
- Prefill and generation: without compilation, means over the prompts, a prompt at a time.
- Peak memory: of the process of that length, Python, compiler and weights included; on a GPU, of
  the device. KV cache: its arrays, which prefill fills."""


def measure(
    model: DiffusionGemma, template: ChatTemplate, items: list, sampler: SamplerConfig, seed: int
) -> dict[str, Any]:
    """Answers prompts of one length, one after another.

    Args:
      model: whose vocabulary covers that of the template's tokenizer.
      items: of a NeedleSource.
      sampler: one canvas is generated.

    Returns:
      "length" (tokens of the prompts), "exact" {"rate", "low", "high", "count"}, "prefill_seconds"
      (of a prompt), "tokens_per_second" (after prefill), "effective_steps", "bytes" of
      PEAK (statistics.peak_memory), FULL and SLIDING.

    Raises:
      ValueError: prompts of different lengths, or as of generate.
    """
    tokenizer = template.tokenizer
    prompts = [
        tokenizer.encode(template.render([{"role": "user", "content": item["prompt"]}]))
        for item in items
    ]
    if len(set(map(len, prompts))) > 1:
        raise ValueError("prompts of different lengths: the tokenizer is not ours")
    tokens = np.array(prompts, np.int32)
    length = tokens.shape[1]
    cache = jax.eval_shape(lambda: model.init_cache(1, length))  # as generate's
    sizes = {FULL: _bytes(model, cache, "full"), SLIDING: _bytes(model, cache, "sliding")}
    right, statistics, split = 0, Statistics(), SplitModel(model)
    for row, item in zip(tokens, tqdm(items, f"{length} tokens", unit="prompt"), strict=True):
        with Clock() as clock:
            out = generate(split, row[None], None, jax.random.key(seed), sampler, clock=clock)
        statistics.add(out.steps, out.valid_tokens, clock)
        text = tokenizer.decode(out.tokens[0, : out.valid_tokens.sum()], skip_special=False)
        right += split_turn(text).answer == item["answer"]
    low, high = wilson(right, len(items))
    figures = statistics.figures()
    return {
        "length": length,
        "exact": {"rate": right / len(items), "low": low, "high": high, "count": len(items)},
        "prefill_seconds": figures["prefill_seconds"] / len(items),
        "tokens_per_second": figures["tokens_per_second"],
        "effective_steps": figures["effective_steps"],
        "bytes": {PEAK: peak_memory()[1], **sizes},
    }


def _bytes(model: DiffusionGemma, cache: KVCache, layer_type: str) -> int:
    layers = zip(model.config.layer_types, cache.layers, strict=True)
    arrays = [array for kind, layer in layers for array in layer if kind == layer_type]
    return sum(array.size * array.dtype.itemsize for array in arrays)


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    for name, default, help in (
        ("checkpoint", None, "Folder of a checkpoint or an adapter, or a training run's workdir."),
        ("base", None, "Of an adapter; default: the folder that it names."),
        ("out", None, "Folder of the report."),
    ):
        flags.DEFINE_string(name, default, help, flag_values=values)
    help = "Of the prompts, in tokens."
    flags.DEFINE_list("lengths", ["1024", "4096", "16384", "65536"], help, flag_values=values)
    flags.DEFINE_integer("prompts", 8, "Of each length.", lower_bound=1, flag_values=values)
    help = "Of prompts and noise."
    flags.DEFINE_integer("seed", 0, help, lower_bound=0, flag_values=values)
    help = "Measures this length in this process, and prints the figures as JSON."
    flags.DEFINE_integer("only", None, help, lower_bound=1, flag_values=values)
    define_fields(values, SamplerConfig, SAMPLER_FLAGS)
    return values


def main(argv: list[str]) -> int:
    values = define_flags()
    return cli.run(values, lambda: _run(values, argv), argv, __doc__)


def _run(values: flags.FlagValues, argv: list[str]) -> int:
    if not values.checkpoint or not values.out:
        raise ValueError("--checkpoint=DIR and --out=DIR are needed")
    out, checkpoint = Path(values.out), Checkpoint.open(values.checkpoint, values.base)
    sampler = SamplerConfig(**given_fields(values, SAMPLER_FLAGS))
    if values.only:
        print(json.dumps(_measure(values, checkpoint, sampler)))
        return 0
    if not all(text.isdecimal() for text in values.lengths) or not values.lengths:
        raise ValueError(f"--lengths={','.join(values.lengths)}: expected numbers of tokens")
    lengths = sorted({int(text) for text in values.lengths})
    cli.check_out(out)
    config = checkpoint.config
    room = config.max_length - (sampler.canvas_size or config.canvas_size)
    if lengths[-1] > room:
        raise ValueError(
            f"{lengths[-1]} tokens and a canvas exceed the model's context: at most {room}"
        )
    for length in lengths:
        _source(values, length)
    rows = []
    for length in lengths:
        command = [sys.executable, "-m", "scripts.long_context", *argv[1:], f"--only={length}"]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if child.returncode:
            return child.returncode  # it has said why
        rows.append(json.loads(child.stdout))
    results = {
        "command": shlex.join(["python", "-m", "scripts.long_context", *argv[1:]]),
        "checkpoint": str(checkpoint.folder),
        "seed": values.seed,
        "sampler": dataclasses.asdict(sampler),
        "window": config.window,
        "rows": rows,
    }
    text = _report(results)
    files = {
        "long_context.png": plots.length_plot(rows),
        "results.json": (json.dumps(results, indent=2) + "\n").encode(),
        "REPORT.md": text.encode(),
    }
    cli.write_files(out, files)
    print(f"{_table(rows)}\nwrote {out / 'REPORT.md'}")
    return 0


def _source(values: flags.FlagValues, length: int) -> NeedleSource:
    """Of held-out prompts: training takes even seeds (data/sources.py)."""
    return NeedleSource(2 * values.seed + 1, values.prompts, length, length, anywhere=False)


def _measure(
    values: flags.FlagValues, checkpoint: Checkpoint, sampler: SamplerConfig
) -> dict[str, Any]:
    model, template = checkpoint.load(), checkpoint.template
    source = _source(values, values.only)
    items = [source[i] for i in range(len(source))]
    return measure(model, template, items, sampler, values.seed) | {"device": cli.device_line()}


def _report(results: dict[str, Any]) -> str:
    rows = results["rows"]
    return f"""\
# A number at the start of a long prompt

{_table(rows)}

![Share found, and memory, against the prompt's length](long_context.png)

Sliding layers see {results["window"]} tokens. {rows[0]["device"]}.

    {results["command"]}

{NOTE}
"""


def _table(rows: list[dict[str, Any]]) -> str:
    header = ["prompt tokens", "found exactly", "prefill", "prefill tokens/s"]
    header += ["generation tokens/s", *rows[0]["bytes"]]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
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
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
