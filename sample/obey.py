"""Answers that obey: the text of each is accepted by an automaton (docs/MODEL.md, Obey).

`generate(..., obey=Constraint(automaton))` uses this file around the rule, as it does with given
tokens. At each step the clean canvas is the most probable accepted one, and the draws and entropies
are those of accepted canvases. The state of each row goes on from canvas to canvas. A canvas ends
only in a state from which the answer can still be completed within max_new_tokens, with its kept
tokens at their places. So every answer is accepted, whatever the model says.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.text.byte_automaton import compile_regex
from data.text.tokenizer import Tokenizer
from sample.accepted import (
    LOW,
    Tables,
    accepted_proposal,
    class_scores,
    find_paths,
    group_scores,
    make_tables,
)
from sample.automaton import NEVER, Automaton, token_automaton
from sample.given import CanvasGiven, Given
from sample.step import Proposal

# A step's keys folded with this are for the draws of accepted strings (see step.OWN).
ACCEPTED = 3


@dataclasses.dataclass(frozen=True)
class Constraint:
    """What the text of an answer must be.

    Attributes:
      automaton: the answers that are accepted.
      every_step: whether draws, entropies and soft embeddings are those of accepted canvases, too.
        Otherwise they are the model's, and only the canvas that is emitted obeys.
    """

    automaton: Automaton
    every_step: bool = True

    @classmethod
    def regex(
        cls,
        expression: str,
        tokenizer: Tokenizer,
        vocab_size: int,
        stop_ids: Sequence[int] | None = None,
        every_step: bool = True,
    ) -> "Constraint":
        """The text up to the stop token matches a regular expression as a whole.

        Args:
          expression: as compile_regex takes it. data/text/json_schema.py makes one of a schema.
          tokenizer: the model's tokenizer.
          vocab_size: V of the model.
          stop_ids: those of the sampler's config; None for the tokenizer's.
          every_step: as above.

        Raises:
          ValueError: the expression or the tokenizer cannot be used.
        """
        automaton = token_automaton(
            compile_regex(expression),
            tokenizer.token_bytes,
            vocab_size,
            tokenizer.stop_ids if stop_ids is None else stop_ids,
            (tokenizer.pad_id, tokenizer.eos_id),
        )
        return cls(automaton, every_step)

    @functools.cached_property
    def tables(self) -> Tables:
        """The automaton on the device; made once."""
        return make_tables(self.automaton)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["tables", "state", "end"],
    meta_fields=["every_step"],
)
@dataclasses.dataclass(frozen=True)
class CanvasObey:
    """The constraint on a canvas of each row.

    Attributes:
      tables: the automaton, the same for all rows.
      state: [B] int32, the states before the canvas.
      end: [B, S] bool, the states in which the canvas may end.
      every_step: as in Constraint.
    """

    tables: Tables
    state: jax.Array
    end: jax.Array
    every_step: bool

    def with_rows(self, rows: tuple[jax.Array, jax.Array]) -> "CanvasObey":
        """The same constraint on other rows: their `state` and `end`."""
        return dataclasses.replace(self, state=rows[0], end=rows[1])


class DecodeObey(NamedTuple):
    """The constraint on an answer that is decoded left to right.

    Attributes:
      tables: the automaton, the same for all rows.
      alive: [B or 1, T + 1, S] bool, as in Completions.
    """

    tables: Tables
    alive: jax.Array


class Completions(NamedTuple):
    """How answers can be completed.

    Attributes:
      alive: [B or 1, T + 1, S] bool, the states before each of T tokens, and behind the last one,
        from which an accepted answer can be completed. One row stands for all.
    """

    alive: np.ndarray

    def canvas(
        self, constraint: Constraint, state: np.ndarray, k: int, canvas_size: int
    ) -> CanvasObey:
        """The constraint on canvas k for rows that are in the states [B] int32."""
        alive = self._padded(constraint)
        end = alive[:, min((k + 1) * canvas_size, alive.shape[1] - 1)]
        end = np.broadcast_to(end, (len(state), end.shape[1]))
        return CanvasObey(
            constraint.tables, jnp.array(state), jnp.array(end), constraint.every_step
        )

    def decode(self, constraint: Constraint) -> DecodeObey:
        """The constraint on decoding left to right."""
        return DecodeObey(constraint.tables, jnp.array(self._padded(constraint)))

    def _padded(self, constraint: Constraint) -> np.ndarray:
        missing = constraint.tables.num_states - self.alive.shape[2]
        return np.pad(self.alive, ((0, 0), (0, 0), (0, missing)))


def find_completions(automaton: Automaton, new_tokens: int, given: Given | None) -> Completions:
    """Finds from where accepted answers can be completed.

    Args:
      automaton: the answers that are accepted.
      new_tokens: T, the largest number of tokens of an answer. If it has so many, it needs no stop
        token.
      given: what check_given returns, or None.

    Raises:
      ValueError: no accepted answer has at most T tokens and the kept tokens. The error says why.
    """
    free = Given(np.zeros((1, new_tokens), np.int32), np.zeros((1, new_tokens), bool))
    alive = _alive(automaton, *(x[0] for x in free))[None]
    if not alive[0, 0, 0]:
        shortest = shortest_answer(automaton)
        if shortest > new_tokens:
            raise ValueError(
                f"the shortest answer that the constraint accepts has {shortest} tokens, but only "
                f"{new_tokens} are generated (--max-new-tokens)"
            )
        raise ValueError(
            f"no answer that the constraint accepts has {new_tokens} tokens, and without stop "
            "tokens it must have so many"
        )
    if given is None or not given.keep.any():
        return Completions(alive)
    _check_kept(automaton, given)
    alive = np.stack([_alive(automaton, *row) for row in zip(*given, strict=True)])
    if (impossible := np.flatnonzero(~alive[:, 0, 0])).size:
        raise ValueError(
            f"row {impossible[0]}: no answer that the constraint accepts has the kept tokens at "
            f"their places within {new_tokens} tokens"
        )
    return Completions(alive)


def shortest_answer(automaton: Automaton) -> int:
    """The number of tokens of the shortest text that is accepted."""
    source, target = automaton.source, automaton.target
    found, length = automaton.accepting.copy(), 0
    while not found[0]:
        found[source[found[target]]] = True
        length += 1
    return length


def obey_proposed(
    proposal: Proposal,
    obey: CanvasObey,
    given: CanvasGiven | None,
    room: jax.Array | int,
    keys: jax.Array,
) -> Proposal:
    """What the model proposes, as far as it obeys.

    Args:
      proposal: what the model proposes.
      obey: the constraint.
      given: the kept tokens, which the accepted canvases have.
      room: number of positions of the canvas that are part of the answer. The others are free.
      keys: [B] PRNG keys for the draws.

    Raises:
      ValueError: the model does not tell its hidden states.
    """
    if proposal.states is None:
        raise ValueError("a constraint needs a model that tells its hidden states")
    tables = obey.tables
    classes = class_scores(proposal, tables, obey.every_step)
    if given is not None:
        kept = tables.classes[jnp.maximum(given.tokens, 0)][..., None]
        only = jnp.where(jnp.arange(tables.num_classes) == kept, 0.0, LOW)
        classes = jax.tree.map(lambda score: jnp.where(given.keep[..., None], only, score), classes)
    groups = group_scores(classes, tables)
    path_keys, token_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    find = jax.vmap(find_paths, in_axes=(0, None, 0, 0, None, 0))
    paths = find(groups, tables, obey.state, obey.end, room, path_keys)
    found = accepted_proposal(proposal, classes, paths, tables, token_keys)
    inside = jnp.arange(proposal.canvas.shape[1]) < room

    def mixed(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(inside.reshape(-1, *[1] * (old.ndim - 2)), new, old)

    names = ("best",)
    if obey.every_step:
        names = ("best", "drawn", "entropy", "soft", "candidates")
    pairs = {name: (getattr(found, name), getattr(proposal, name)) for name in names}
    return proposal._replace(**{name: jax.tree.map(mixed, *pair) for name, pair in pairs.items()})


@jax.jit
def advance(tables: Tables, state: jax.Array, tokens: jax.Array) -> jax.Array:
    """The states behind tokens: state [B] int32, tokens [B, n] int32 -> [B] int32.

    A token that is not allowed leaves the state as it is.
    """

    def row(state: jax.Array, token: jax.Array) -> jax.Array:
        klass = tables.classes[token]
        members = (tables.member_class == klass) & (klass != NEVER)
        groups = jnp.zeros(tables.num_groups, bool).at[tables.member_group].max(members)
        edges = (tables.source == state) & groups[tables.group]
        return jnp.where(edges.any(), tables.target[jnp.argmax(edges)], state)

    def step(state: jax.Array, token: jax.Array) -> tuple[jax.Array, None]:
        return jax.vmap(row)(state, token), None

    return jax.lax.scan(step, state, tokens.T)[0]


def allowed_logits(
    tables: Tables, state: jax.Array, alive: jax.Array, logits: jax.Array
) -> jax.Array:
    """The logits of one token, with LOW for the tokens that are not allowed.

    Args:
      tables: the automaton.
      state: [B] int32, the states before the token.
      alive: [B or 1, S] bool, the states behind it from which the answer can be completed.
      logits: [B, V] float32.
    """
    edges = (tables.source == state[:, None]) & alive[:, tables.target]
    rows = len(state)
    groups = jnp.zeros((rows, tables.num_groups), bool).at[:, tables.group].max(edges)
    classes = jnp.zeros((rows, tables.num_classes), bool)
    classes = classes.at[:, tables.member_class].max(groups[:, tables.member_group])
    return jnp.where(classes.at[:, NEVER].set(False)[:, tables.classes], logits, LOW)


def _alive(automaton: Automaton, tokens: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Completions.alive of one row: tokens [T] int32 and keep [T] bool -> [T + 1, S]."""
    alive = np.zeros((len(tokens) + 1, automaton.num_states), bool)
    alive[-1] = automaton.accepting
    source, target = automaton.source, automaton.target
    for i in range(len(tokens) - 1, -1, -1):
        edges = alive[i + 1][target]
        if keep[i]:
            edges &= automaton.has_class(automaton.classes[tokens[i]])
        elif i + 2 < len(alive) and not keep[i + 1] and (alive[i + 1] == alive[i + 2]).all():
            alive[i] = alive[i + 1]
            continue
        alive[i, source[edges]] = True
    return alive


def _check_kept(automaton: Automaton, given: Given) -> None:
    """Raises ValueError for a kept token that no accepted answer has."""
    wrong = given.keep & (automaton.classes[np.maximum(given.tokens, 0)] == NEVER)
    if wrong.any():
        row, position = np.argwhere(wrong)[0]
        raise ValueError(
            f"row {row}: token {given.tokens[row, position]} is kept at position {position}, but "
            "no answer that the constraint accepts has it"
        )
