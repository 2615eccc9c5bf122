"""What fewer bits cost a model: its logits, and how well and how fast it solves Sudoku.

    python -m scripts.quantization_quality --checkpoint=runs/sudoku/model --generate=256 \
        --clues=40-50

Prints a table with a line for each precision. Logits are those of one pass over noisy solutions,
without self-conditioning; they are compared with float32's. Solving is train.evaluate's, with
early stopping.
"""

import functools
import sys
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from tqdm import tqdm

from data.pipeline import Packer
from data.sudoku.grids import prompt, render
from data.text.chat_template import ChatTemplate
from data.text.conversations import conversation
from diffusiongemma import DiffusionGemma
from diffusiongemma.diffusion import corrupt, noise_levels
from diffusiongemma.ops.quantized import Precision
from diffusiongemma.quantized_model import quantize_model
from sample import cli
from sample.checkpoint import Checkpoint
from sample.step import SamplerConfig
from train.evaluate import define_puzzles, evaluate, load_puzzles
from train.outcome import summarize
from train.replay import encode_prompts

PRECISIONS = ("float32", "bfloat16", *get_args(Precision))
COLUMNS = ("weights, MB", "logits' error", "KL, nats", "same argmax", "solved", "steps")


def at_precision(
    values: flags.FlagValues, checkpoint: Checkpoint, precision: str
) -> DiffusionGemma:
    """The checkpoint's model; if it is quantized, what is not quantized is in --dtype."""
    if precision not in get_args(Precision):
        return checkpoint.load(precision)
    return quantize_model(checkpoint.load(values.dtype), precision)


def noisy_solutions(
    model: DiffusionGemma, template: ChatTemplate, puzzles, solutions, seed: int
) -> tuple[np.ndarray, ...]:
    """tokens and mask [N, P] of the prompts, and the solutions' canvases [N, C] with noise."""
    tokens, mask = encode_prompts(model, template, puzzles, SamplerConfig())
    size = model.config.canvas_size
    packer = Packer(template, tokens.shape[1], size, 1)
    rows = [
        packer(conversation(prompt(p), render(s))) for p, s in zip(puzzles, solutions, strict=True)
    ]
    clean = np.stack([row["tokens"][row["prompt_len"] :][:size] for row in rows])
    levels, places = jax.random.split(jax.random.key(seed))
    levels = noise_levels(levels, len(clean))
    return tokens, mask, corrupt(places, clean, levels, model.config.vocab_size)


@functools.partial(jax.jit, static_argnames="graphdef")
def logits(graphdef, state, tokens, mask, canvases) -> jax.Array:
    """[N, C, V] float32."""
    model = nnx.merge(graphdef, state)
    cache = model.init_cache(*tokens.shape)
    _, cache = model.encode(tokens, cache, mask, logits="none")
    return model.denoise(canvases, cache)


@jax.jit
def compare(found: jax.Array, wanted: jax.Array) -> dict[str, jax.Array]:
    """Figures of logits [N, C, V] against others."""
    log_p, log_q = jax.nn.log_softmax(wanted), jax.nn.log_softmax(found)
    return {
        "error": jnp.sqrt(jnp.mean((found - wanted) ** 2) / jnp.mean(wanted**2)),
        "kl": jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)),
        "same": jnp.mean(jnp.argmax(found, axis=-1) == jnp.argmax(wanted, axis=-1)),
    }


def line(precision: str, model: DiffusionGemma, figures: dict, summary: dict) -> str:
    """A line of the table; `figures` are compare()'s, `summary` is train.outcome.summarize's."""
    size = sum(x.nbytes for x in jax.tree.leaves(nnx.state(model))) / 1e6
    solved = summary["exact"]
    cells = (
        precision,
        f"{size:.2f}",
        f"{figures['error']:.2%}",
        f"{figures['kl']:.2g}",
        f"{figures['same']:.2%}",
        f"{solved['rate']:.1%} [{100 * solved['low']:.1f}, {100 * solved['high']:.1f}]",
        f"{summary['steps']['effective']:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    for name, help in (
        ("checkpoint", "Folder of a checkpoint or an adapter, or a training run's workdir."),
        ("base", "Of an adapter; default: the folder that it names."),
        ("tokenizer", "A tokenizer.json; default: the checkpoint's, else the repository's."),
    ):
        flags.DEFINE_string(name, None, help, flag_values=values)
    help = "Of activations, and of all that is not quantized, with int8 and int4."
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], help, flag_values=values)
    define_puzzles(values)
    for name, default, help in (
        ("canvases", 32, "Of which logits are compared."),
        ("batch_size", 64, "Puzzles denoised together."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    return values


def main(argv: list[str]) -> int:
    values = define_flags()

    def run() -> None:
        if not values.checkpoint:
            raise ValueError("--checkpoint=DIR is needed")
        box = int(values.box)
        puzzles, solutions = load_puzzles(values, box)
        checkpoint = Checkpoint.open(values.checkpoint, values.base, values.tokenizer)
        template, reference, lines = checkpoint.template, None, []
        sampler = SamplerConfig(**checkpoint.sampler_defaults)
        for precision in tqdm(PRECISIONS, unit="precision"):
            model = at_precision(values, checkpoint, precision)
            some = puzzles[: values.canvases], solutions[: values.canvases]
            canvases = noisy_solutions(model, template, *some, values.seed)
            found = logits(*nnx.split(model), *canvases)
            reference = found if reference is None else reference
            figures = {name: float(x) for name, x in compare(found, reference).items()}
            settings = box, sampler, values.seed, values.batch_size
            outcome = evaluate(model, template, puzzles, solutions, *settings)
            lines.append(line(precision, model, figures, summarize(outcome, puzzles, box)))
        print(f"| {len(puzzles)} puzzles | {' | '.join(COLUMNS)} |")
        print("|---" * (len(COLUMNS) + 1) + "|")
        print("\n".join(lines))

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
