"""Measures what fewer bits cost a model: its logits, and how well and how fast it does a task.

    python -m scripts.quantization_quality --checkpoint=runs/sudoku/model --generate=256 \\
        --clues=40-50

Prints a table with a line for each precision. The logits are those of one pass over noisy right
answers, without self-conditioning, and are compared with those of float32. Items are answered with
early stopping, as train.evaluate does, which has the same flags for the task and its items.
"""

import functools
import sys
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from tqdm import tqdm

from data.pipeline import Packer
from data.tasks.task import Task
from diffusiongemma import DiffusionGemma
from diffusiongemma.diffusion import corrupt, noise_levels
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.quantized_model import quantize_model
from sample import cli
from sample.checkpoint import Checkpoint
from sample.step import SamplerConfig
from train.evaluate import define_checkpoint, define_items, load_items, named_task
from train.evaluation import Evaluation
from train.outcome import summarize

PRECISIONS = ("float32", "bfloat16", *get_args(Precision))
COLUMNS = ("weights, MB", "logits' error", "KL, nats", "same argmax", "right", "steps")


def at_precision(
    values: flags.FlagValues, checkpoint: Checkpoint, precision: str
) -> DiffusionGemma:
    """The checkpoint's model in one of PRECISIONS.

    With int8 and int4, the weights that are not quantized have the dtype of the flag --dtype.
    """
    if precision not in get_args(Precision):
        return checkpoint.load(precision)
    return quantize_model(checkpoint.load(values.dtype), precision)


def noisy_answers(evaluation: Evaluation, count: int) -> tuple[np.ndarray, np.ndarray, jax.Array]:
    """Prompts of the first N items, and the canvases of their right answers with noise.

    Args:
      count: N, at most.

    Returns:
      tokens [N, P] int32 and mask [N, P] bool of the prompts; canvases [N, C] int32.
    """
    tokens, mask = evaluation.tokens[:count], evaluation.mask[:count]
    size, task = evaluation.config.canvas_size, evaluation.task
    packer = Packer(evaluation.template, tokens.shape[1], size, 1)
    rows = [packer(task.conversation(item), task.parts(item)) for item in evaluation.items[:count]]
    clean = np.stack([row["tokens"][row["prompt_len"] :][:size] for row in rows])
    levels, places = jax.random.split(jax.random.key(evaluation.seed))
    levels = noise_levels(levels, len(clean))
    return tokens, mask, corrupt(places, clean, levels, evaluation.config.vocab_size)


@functools.partial(jax.jit, static_argnames="graphdef")
def logits(
    graphdef: nnx.GraphDef,
    state: nnx.State,
    tokens: jax.Array,
    mask: jax.Array,
    canvases: jax.Array,
) -> jax.Array:
    """Logits [N, C, V] float32 of canvases [N, C] behind prompts [N, P]."""
    model = nnx.merge(graphdef, state)
    cache = model.init_cache(*tokens.shape)
    _, cache = model.encode(tokens, cache, mask, logits="none")
    return model.denoise(canvases, cache)


@jax.jit
def compare(found: jax.Array, wanted: jax.Array) -> dict[str, jax.Array]:
    """Compares logits [N, C, V] float32 with those of a reference.

    Returns:
      float32 scalars. "error": the norm of the difference over that of the reference. "kl": the
      mean Kullback-Leibler divergence from the reference, in nats. "same": the share of positions
      with the same most probable token.
    """
    log_p, log_q = jax.nn.log_softmax(wanted), jax.nn.log_softmax(found)
    return {
        "error": jnp.sqrt(jnp.mean((found - wanted) ** 2) / jnp.mean(wanted**2)),
        "kl": jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)),
        "same": jnp.mean(jnp.argmax(found, axis=-1) == jnp.argmax(wanted, axis=-1)),
    }


def line(
    precision: str, model: DiffusionGemma, figures: dict[str, float], summary: dict[str, Any]
) -> str:
    """A line of the table.

    Args:
      figures: the result of compare().
      summary: the result of train.outcome.summarize().
    """
    size = sum(x.nbytes for x in jax.tree.leaves(nnx.state(model))) / 1e6
    right = summary["exact"]
    cells = (
        precision,
        f"{size:.2f}",
        f"{figures['error']:.2%}",
        f"{figures['kl']:.2g}",
        f"{figures['same']:.2%}",
        f"{right['rate']:.1%} [{100 * right['low']:.1f}, {100 * right['high']:.1f}]",
        f"{summary['steps']['effective']:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def define_flags(task: type[Task]) -> flags.FlagValues:
    """The command's flags, in a set of their own."""
    values = flags.FlagValues()
    for name, help in (
        ("base", "Folder of an adapter's base. Default: the folder that the adapter names."),
        ("tokenizer", "A tokenizer.json. Default: the checkpoint's, else the repository's."),
    ):
        flags.DEFINE_string(name, None, help, flag_values=values)
    help = "Dtype of activations, and of the weights that are not quantized, with int8 and int4."
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], help, flag_values=values)
    define_checkpoint(values)
    define_items(values, task)
    for name, default, help in (
        ("canvases", 32, "Number of canvases whose logits are compared."),
        ("batch_size", 64, "Number of items that are denoised together."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    return values


def table(values: flags.FlagValues) -> str:
    """The table that the flags ask for, as Markdown; raises ValueError for wrong flags."""
    if not values.checkpoint:
        raise ValueError("--checkpoint=DIR is needed")
    task, items = load_items(values, lambda conversation: None)
    checkpoint = Checkpoint.open(values.checkpoint, values.base, values.tokenizer)
    sampler, reference = SamplerConfig(**checkpoint.sampler_defaults), None
    lines = [
        f"| {len(items)} {task.noun}s | {' | '.join(COLUMNS)} |",
        "|---" * (1 + len(COLUMNS)) + "|",
    ]
    for precision in tqdm(PRECISIONS, unit="precision"):
        model = at_precision(values, checkpoint, precision)
        settings = {"seed": values.seed, "batch_size": values.batch_size}
        evaluation = Evaluation(model, checkpoint.template, task, items, **settings)
        found = logits(*nnx.split(model), *noisy_answers(evaluation, values.canvases))
        reference = found if reference is None else reference
        figures = {name: float(x) for name, x in compare(found, reference).items()}
        summary = summarize(evaluation.run(sampler), bins={})
        lines.append(line(precision, model, figures, summary))
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    try:
        values = define_flags(named_task(argv))
    except (ValueError, flags.Error) as error:
        return cli.fail(error)
    return cli.run(values, lambda: print(table(values)), argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
