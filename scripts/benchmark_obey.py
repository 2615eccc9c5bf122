"""Measures what a constraint costs: compilation, memory, and the part of a denoising step.

    python -m scripts.benchmark_obey
    python -m scripts.benchmark_obey --fields=20 --vocab=262144 --canvas=256 --width=64

The constraint is a schema of some fields: texts, numbers, choices and lists. The vocabulary is made
up: bytes, single characters, and the pieces that random words and JSON have. Prints lines for
docs/PERFORMANCE.md. The hidden states are random; the layers of a model are not part of it.
"""

import itertools
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from data.text.byte_automaton import compile_regex
from data.text.json_schema import schema_regex
from diffusiongemma import head
from diffusiongemma.layers import Embedder
from sample import Constraint, Proposal, SamplerConfig, cli
from sample.automaton import token_automaton
from sample.obey import CanvasObey, find_completions, obey_proposed
from sample.statistics import peak_memory
from sample.step import draw_noise

PAD, STOP, SOFTCAP = 0, 1, 30.0
REPEATS = 3


class Head(nnx.Module):
    """The output head alone, as a model of obey_proposed."""

    def __init__(self, vocab_size: int, width: int):
        self.embedder = Embedder(vocab_size, width, rngs=nnx.Rngs(0), dtype=jnp.float32)

    def to_logits(self, states: jax.Array) -> jax.Array:
        return SOFTCAP * jnp.tanh(self.embedder.decode(states) / SOFTCAP)

    def soft_embed(self, tempered: jax.Array) -> jax.Array:
        return self.embedder.encode_soft(jax.nn.softmax(tempered, axis=-1))


def schema_of(fields: int) -> dict[str, Any]:
    """A schema with four kinds of fields in turn, all of which must be there."""
    kinds = [
        {"type": "string"},
        {"type": "integer", "minimum": 0, "maximum": 120},
        {"enum": ["red", "green", "blue"]},
        {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    ]
    properties = {f"field_{i}": kinds[i % len(kinds)] for i in range(fields)}
    return {"type": "object", "properties": properties, "required": list(properties)}


def vocabulary(size: int) -> list[bytes | None]:
    """The bytes of `size` tokens, the first three of which are special."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    found = dict.fromkeys([bytes([byte]) for byte in range(256)])
    signs = itertools.product(" {}[],:\\", '":,}] \n', '":,}] ')
    found |= dict.fromkeys("".join(three).encode() for three in signs)
    while len(found) < size - 3:
        word = "".join(rng.choice(letters, rng.integers(2, 11)))
        found[(word, f" {word}", word.capitalize())[rng.integers(3)].encode()] = None
    return [None] * 3 + list(found)[: size - 3]


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = flags.FlagValues()
    for name, default, help in (
        ("fields", 20, "Number of fields of the schema."),
        ("vocab", 262_144, "Number of tokens of the vocabulary, a multiple of 128."),
        ("canvas", 256, "Number of tokens of the canvas."),
        ("width", 64, "Width of the hidden states. The 26B's is 2816."),
        ("rows", 1, "Number of rows."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    return cli.run(values, lambda: _run(values), argv, __doc__)


def _run(values: flags.FlagValues) -> None:
    size, rows = values.canvas, values.rows
    texts = vocabulary(values.vocab)
    before, start = peak_memory(), time.perf_counter()
    text = compile_regex(schema_regex(schema_of(values.fields)))
    middle = time.perf_counter()
    automaton = token_automaton(text, texts, values.vocab, (STOP,), (PAD,))
    end = time.perf_counter()
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{values.fields} fields, {values.vocab:,} tokens: expression {middle - start:.2f} s, "
        f"tokens {end - middle:.2f} s; {automaton.num_states} states, {len(automaton.source)} "
        f"edges, {automaton.num_groups} groups of {automaton.num_classes} classes; peak host "
        f"memory {host / 2**20:,.0f} MiB, {before[1] / 2**20:,.0f} before"
    )
    constraint, model = Constraint(automaton), Head(values.vocab, values.width)
    shortest = find_completions(automaton, 4 * size, None)
    canvas = shortest.canvas(constraint, np.zeros(rows, np.int32), 0, size)
    states = jax.random.normal(jax.random.key(0), (rows, size, values.width))
    keys = jax.random.split(jax.random.key(1), rows)
    graph, weights = nnx.split(model)

    def proposed(weights: nnx.State, states: jax.Array, keys: jax.Array) -> Proposal:
        model = nnx.merge(graph, weights)
        noise = draw_noise(keys, size, values.vocab)
        found = head.predict(states, model.embedder.embedding[...], SOFTCAP, 0.7, noise)
        config, one = SamplerConfig(), jnp.int32(1)
        noise = jnp.zeros((rows, size), jnp.int32)
        parts = found.best, found.drawn, found.entropy, found.soft, noise
        return Proposal(one, one, 0.7, noise, *parts, keys, config, model, states)

    def parts(proposal: Proposal) -> tuple[jax.Array, ...]:
        return proposal.best, proposal.drawn, proposal.entropy, proposal.soft

    def plain(weights, states, keys):
        return parts(proposed(weights, states, keys))

    def obeyed(weights, states, keys, canvas: CanvasObey):
        proposal = proposed(weights, states, keys)
        return parts(obey_proposed(proposal, canvas, None, size, keys))

    for name, function, more in (
        ("head and sampling", plain, ()),
        ("the same with the constraint", obeyed, (canvas,)),
    ):
        start = time.perf_counter()
        program = jax.jit(function).lower(weights, states, keys, *more).compile()
        compiled = time.perf_counter() - start
        jax.block_until_ready(program(weights, states, keys, *more))
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            jax.block_until_ready(program(weights, states, keys, *more))
            times.append(1000 * (time.perf_counter() - start))
        temporary = program.memory_analysis().temp_size_in_bytes / 2**20
        print(
            f"{name}: {np.median(times):.1f} ms a step, {temporary:,.0f} MiB of temporary arrays, "
            f"compiled in {compiled:.1f} s"
        )
    print(f"on {cli.device_line()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
