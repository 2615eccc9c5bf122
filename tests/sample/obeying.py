"""Random expressions over small vocabularies, and answers found by trying all of them."""

import functools
import itertools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from data.text.byte_automaton import compile_regex
from sample import SamplerConfig
from sample.automaton import Automaton, token_automaton
from sample.given import CanvasGiven
from sample.obey import Constraint, obey_proposed, plan
from sample.step import Proposal

PAD, STOP, EOS = 0, 1, 2
TEXTS = (None, None, None, b"a", b"b", b"ab", b"ba")  # V = 7
STEP_TEMPERATURE = 0.7


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


def automaton_of(expression: str, texts=TEXTS, stop_ids=(STOP,)) -> Automaton:
    return token_automaton(compile_regex(expression), texts, len(texts), stop_ids, (PAD, EOS))


def is_accepted(expression: str, tokens: tuple[int, ...], length: int, texts=TEXTS) -> bool:
    """Whether tokens are a whole answer of at most `length` tokens, by Python's re."""
    if len(tokens) > length:
        return False
    text, rest = b"", iter(tokens)
    for token in rest:
        if token == STOP:
            if not all(other in (PAD, STOP, EOS) for other in rest):
                return False
            break
        if texts[token] is None:
            return False
        text += texts[token]
    return re.fullmatch(expression.encode(), text) is not None


@functools.cache
def all_answers(length: int, vocab_size: int = len(TEXTS)) -> np.ndarray:
    """[V^n, n] int64, all sequences of n tokens."""
    return np.array(list(itertools.product(range(vocab_size), repeat=length)))


def accepted_answers(expression: str, length: int) -> np.ndarray:
    """[A, n] int64, the sequences of n tokens that are accepted as whole answers."""
    every = all_answers(length)
    stopped = np.cumsum(every == STOP, axis=1) > 0
    shape = (np.where(stopped, np.isin(every, (PAD, STOP, EOS)), every > EOS)).all(axis=1)
    every = every[shape]
    verdicts: dict[bytes, bool] = {}
    kept = []
    for tokens in every.tolist():
        text = b"".join(TEXTS[t] for t in tokens if t > EOS)
        if text not in verdicts:
            verdicts[text] = re.fullmatch(expression.encode(), text) is not None
        kept.append(verdicts[text])
    return every[np.array(kept, bool)]


class Echo:
    """A model double. Its hidden states are the logits, and an embedding is a one-hot vector."""

    def to_logits(self, states: jax.Array) -> jax.Array:
        return states

    def soft_embed(self, tempered: jax.Array) -> jax.Array:
        return jax.nn.softmax(tempered, axis=-1)


def proposal_of(logits: jax.Array) -> Proposal:
    """What Echo proposes: logits [B, C, V] float32."""
    rows, size, _ = logits.shape
    zeros = jnp.zeros((rows, size), jnp.int32)
    return Proposal(
        n=jnp.int32(1),
        t=jnp.float32(1),
        temperature=jnp.float32(STEP_TEMPERATURE),
        canvas=zeros,
        best=zeros - 1,
        drawn=zeros - 1,
        entropy=jnp.zeros((rows, size)),
        soft=jnp.zeros_like(logits),
        noise=zeros,
        keys=jax.random.split(jax.random.key(0), rows),
        config=SamplerConfig(),
        model=Echo(),
        states=logits,
    )


@jax.jit
def _obeyed(logits, obey, given, room, keys):
    found = obey_proposed(proposal_of(logits), obey, given, room, keys)
    return SimpleNamespace(**found._asdict()).__dict__ | {"config": None, "model": None}


def obeyed(
    automaton: Automaton,
    logits: np.ndarray,
    state: np.ndarray,
    k: int,
    length: int,
    given: CanvasGiven | None = None,
    every_step: bool = True,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Best, drawn, entropy and soft of canvas k, whose logits are [B, C, V]."""
    constraint, size = Constraint(automaton, every_step), logits.shape[1]
    canvas = plan(automaton, length, None).canvas(constraint, state, k, size)
    keys = jax.random.split(jax.random.key(seed), len(logits))
    return _obeyed(jnp.asarray(logits), canvas, given, length - k * size, keys)
