"""Random expressions and schemas over small vocabularies, and all their answers by trying them."""

import functools
import itertools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.text.byte_automaton import compile_regex
from sample import SamplerConfig
from sample.automaton import Automaton, token_automaton
from sample.given import CanvasGiven, Given, by_canvas, check_given
from sample.obey import Constraint, find_completions, obey_proposed
from sample.step import Candidates, Proposal

PAD, STOP, EOS = 0, 1, 2
TEXTS = (None, None, None, b"a", b"b", b"ab", b"ba")
V = len(TEXTS)
TEMPERATURE = 0.7


def random_regex(rng: np.random.Generator, letters: str = "aab", depth: int = 3) -> str:
    """A regular expression that Python and the compiler read in the same way."""
    kind = rng.integers(6) if depth else 0
    if kind <= 1:
        return "".join(rng.choice(list(letters), rng.integers(1, 3)))
    parts = [random_regex(rng, letters, depth - 1) for _ in range(2)]
    if kind == 2:
        return f"(?:{parts[0]}|{parts[1]})"
    if kind == 3:
        return f"(?:{parts[0]})" + str(rng.choice(["*", "+", "?", "*?", "{0,2}", "{2}"]))
    return "".join(parts)


def random_schema(rng: np.random.Generator, depth: int = 2) -> dict[str, Any]:
    """A JSON schema whose answers are short."""
    kind = rng.integers(9 if depth else 6)
    if kind == 0:
        return {"type": str(rng.choice(["null", "boolean", "number", "integer"]))}
    if kind == 1:
        return {"type": "string", "minLength": int(rng.integers(3))}
    if kind == 2:
        return {"type": "string", "maxLength": int(rng.integers(4))}
    if kind == 3:
        low = int(rng.integers(-20, 20))
        return {"type": "integer", "minimum": low, "exclusiveMaximum": low + 1 + int(low % 90)}
    if kind == 4:
        return {"enum": [None, 1.5, "ab", [True], {"a": -2}][int(rng.integers(4)) :]}
    if kind == 5:
        return {"type": "string", "pattern": f"^{random_regex(rng, 'abd', 2)}$"}
    if kind == 6:
        return {"anyOf": [random_schema(rng, depth - 1) for _ in range(2)]}
    if kind == 7:
        least = int(rng.integers(2))
        items = random_schema(rng, depth - 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + 1}
    names = [name for name in "abd" if rng.random() < 0.6]
    return {
        "type": "object",
        "properties": {name: random_schema(rng, 0) for name in names},
        "required": [name for name in names if rng.random() < 0.5],
        "additionalProperties": False,
    }


def automaton_of(expression: str, texts=TEXTS, stop_ids=(STOP,)) -> Automaton:
    return token_automaton(compile_regex(expression), texts, len(texts), stop_ids, (PAD, EOS))


@functools.cache
def _shaped(length: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All sequences [A, n] of a text, a stop token and fill; each one's text [A], and the texts."""
    every = np.array(list(itertools.product(range(V), repeat=length)))
    stopped = np.cumsum(every == STOP, axis=1) > 0
    every = every[np.where(stopped, every <= EOS, every > EOS).all(axis=1)]
    texts = ["".join(TEXTS[t].decode() for t in row if t > EOS) for row in every.tolist()]
    names, index = np.unique(texts, return_inverse=True)
    return every, index, names.tolist()


def accepted_answers(expression: str, length: int) -> np.ndarray:
    """[A, n] int64, the sequences of n tokens that are whole answers, by Python's re."""
    every, index, texts = _shaped(length)
    pattern = re.compile(expression)
    return every[np.array([pattern.fullmatch(text) is not None for text in texts])[index]]


class Echo:
    """A model double. Its hidden states are the logits, and an embedding is a one-hot vector."""

    def to_logits(self, states: jax.Array) -> jax.Array:
        return states

    def soft_embed(self, tempered: jax.Array) -> jax.Array:
        return jax.nn.softmax(tempered, axis=-1)


class Obeyed(NamedTuple):
    """What obey_proposed changes; see Proposal."""

    best: jax.Array
    drawn: jax.Array
    entropy: jax.Array
    soft: jax.Array
    ids: jax.Array  # of two candidates
    probabilities: jax.Array


@jax.jit
def propose_obeyed(logits, obey, given, room, keys) -> Obeyed:
    """obey_proposed for logits [B, C, V]. The proposal has -1 as tokens and as entropies."""
    rows, size, _ = logits.shape
    nothing = jnp.full((rows, size), -1, jnp.int32)
    proposal = Proposal(
        n=jnp.int32(1),
        t=jnp.float32(1),
        temperature=jnp.float32(TEMPERATURE),
        canvas=nothing,
        best=nothing,
        drawn=nothing,
        entropy=jnp.full((rows, size), -1.0),
        soft=jnp.full_like(logits, -1),
        noise=nothing,
        keys=keys,
        config=SamplerConfig(),
        model=Echo(),
        states=logits,
        candidates=Candidates(jnp.full((rows, size, 2), -1), jnp.full((rows, size, 2), -1.0)),
    )
    found = obey_proposed(proposal, obey, given, room, keys)
    return Obeyed(found.best, found.drawn, found.entropy, found.soft, *found.candidates)


def obeyed(
    automaton: Automaton,
    logits: np.ndarray,
    length: int,
    state: np.ndarray | None = None,
    k: int = 0,
    given: Given | None = None,
    every_step: bool = True,
) -> Obeyed:
    """Canvas k [B, C] of answers of up to `length` tokens, for logits [B, C, V]."""
    constraint, (rows, size, _) = Constraint(automaton, every_step), logits.shape
    nothing = Given(np.full((rows, 0), -1), np.zeros((rows, 0), bool))
    given = check_given(given or nothing, rows, length, logits.shape[-1])
    state = np.zeros(rows, np.int32) if state is None else state
    canvas = find_completions(automaton, length, given).canvas(constraint, state, k, size)
    kept = CanvasGiven(*(x[:, k] for x in by_canvas(given, size)))
    keys = jax.random.split(jax.random.key(0), rows)
    found = propose_obeyed(jnp.asarray(logits), canvas, kept, length - k * size, keys)
    return Obeyed(*map(np.array, found))
