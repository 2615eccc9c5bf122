"""The accepted strings of a canvas under independent positions: the best, a draw, and marginals.

The model gives each position of a canvas a distribution of its own. An automaton (automaton.py)
says which strings are accepted. This file computes, exactly, by dynamic programming over positions
and states (docs/MODEL.md, Obey):

- the most probable accepted string,
- a draw from the product of the distributions, given that the string is accepted,
- for each position the distribution of its token in such draws: its entropy, its mean embedding.

A first pass over the vocabulary reduces the logits to one score for each class of tokens, and a
second one chooses tokens and makes the marginals. Both go through few positions at a time, so the
logits [B, C, V] are never whole in memory. Only scores of groups and states are kept for a canvas.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma.head import DrawNoise, block_size, draw
from diffusiongemma.ops.reductions import argmax
from sample.automaton import NEVER, Automaton
from sample.candidates import by_chunks, most_probable
from sample.step import Proposal

LOW = -1e30  # the score of what is not allowed; sums of a canvas of them stay finite
SMALLEST = 64  # size of the arrays of a small automaton
# Tokens of one class that are reduced together, in large and in small vocabularies.
BLOCK, SMALL_BLOCK = 32, 4


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "classes",
        "blocks",
        "block_class",
        "member_class",
        "member_group",
        "source",
        "group",
        "target",
    ],
    meta_fields=["num_states", "num_classes", "num_groups"],
)
@dataclasses.dataclass(frozen=True)
class Tables:
    """An automaton in arrays of sizes that other automata have too, so that they share programs.

    Attributes:
      classes: [V] int32, as in Automaton.
      blocks: [N, W] int32, the tokens of each class together, in blocks; -1 where none is.
      block_class: [N] int32, sorted.
      member_class, member_group: [M] int32, as in Automaton. What fills up is in the last group.
      source, group, target: [E] int32, as in Automaton. What fills up has the last group, that no
        token is in.
      num_states, num_classes, num_groups: S, K and G, at least the automaton's.
    """

    classes: jax.Array
    blocks: jax.Array
    block_class: jax.Array
    member_class: jax.Array
    member_group: jax.Array
    source: jax.Array
    group: jax.Array
    target: jax.Array
    num_states: int
    num_classes: int
    num_groups: int


class Scores(NamedTuple):
    """Scores of groups or classes, up to a constant for each position.

    Attributes:
      best: [..., C, n] float32, the largest log probability of their tokens.
      total: [..., C, n] float32, the log of the sum of their probabilities; None if not needed.
    """

    best: jax.Array
    total: jax.Array | None


class Paths(NamedTuple):
    """Ways through the automaton: for each position, groups of tokens.

    Attributes:
      best: [C] int32, the groups of the most probable accepted string.
      drawn: [C] int32, those of a draw; None if not needed, like `weights`.
      weights: [C, G] float32, the log of what a group's tokens are multiplied by for the marginals,
        up to a constant for each position.
    """

    best: jax.Array
    drawn: jax.Array | None
    weights: jax.Array | None


def make_tables(automaton: Automaton) -> Tables:
    """Fills the automaton's arrays up to the sizes of its programs."""
    classes = automaton.classes
    states, groups = _padded(automaton.num_states), _padded(automaton.num_groups + 1)
    num_classes = _padded(automaton.num_classes)
    tokens = np.argsort(classes, kind="stable")
    tokens = tokens[classes[tokens] != NEVER]
    klass, count = np.unique(classes[tokens], return_counts=True)
    width = BLOCK if len(classes) > 2**13 else SMALL_BLOCK
    num_blocks = -(-count // width)
    size = _padded(int(num_blocks.sum()), parts=8)
    blocks = np.full((size, width), -1, np.int32)
    begin = width * (np.cumsum(num_blocks) - num_blocks)
    rank = np.arange(len(tokens)) - np.repeat(np.cumsum(count) - count, count)
    blocks.reshape(-1)[np.repeat(begin, count) + rank] = tokens
    block_class = np.full(size, num_classes - 1, np.int32)
    block_class[: num_blocks.sum()] = np.repeat(klass, num_blocks)

    def filled(array: np.ndarray, value: int) -> jax.Array:
        return jnp.array(
            np.pad(array, (0, _padded(len(array)) - len(array)), constant_values=value)
        )

    return Tables(
        classes=jnp.array(classes),
        blocks=jnp.array(blocks),
        block_class=jnp.array(block_class),
        member_class=filled(automaton.member_class, NEVER),
        member_group=filled(automaton.member_group, groups - 1),
        source=filled(automaton.source, states - 1),
        group=filled(automaton.group, groups - 1),
        target=filled(automaton.target, states - 1),
        num_states=states,
        num_classes=num_classes,
        num_groups=groups,
    )


def _padded(size: int, parts: int = 1) -> int:
    """The next of the sizes: SMALLEST and the powers of two above, and parts of these."""
    step = max(SMALLEST, (1 << max(size - 1, 0).bit_length()) // parts)
    return -(-max(size, 1) // step) * step


def class_scores(proposal: Proposal, tables: Tables, with_totals: bool) -> Scores:
    """The scores [B, C, K] of the classes at the step's temperature."""
    is_token = tables.blocks >= 0

    def read(states: jax.Array) -> Scores:
        logits = proposal.model.to_logits(states) / proposal.temperature
        inside = jnp.where(is_token, logits[..., jnp.maximum(tables.blocks, 0)], LOW)
        best = _segment_max(inside.max(axis=-1), tables.block_class, tables.num_classes, True)
        if not with_totals:
            return Scores(best, None)
        total = jax.nn.logsumexp(inside, axis=-1)
        return Scores(best, _segment_lse(total, tables.block_class, tables.num_classes, True))

    return by_chunks(read, proposal.states, len(tables.classes))


def group_scores(scores: Scores, tables: Tables) -> Scores:
    """The scores [B, C, G] of the groups, of those of their classes."""
    members, groups = tables.member_class, tables.num_groups
    best = _segment_max(scores.best[..., members], tables.member_group, groups, True)
    if scores.total is None:
        return Scores(best, None)
    total = _segment_lse(scores.total[..., members], tables.member_group, groups, True)
    return Scores(best, total)


def find_paths(
    scores: Scores,
    tables: Tables,
    state: jax.Array,
    end: jax.Array,
    room: jax.Array | int,
    key: jax.Array,
) -> Paths:
    """Finds the paths of one row.

    Args:
      scores: [C, G], those of the groups.
      tables: the automaton.
      state: int32 scalar, the state before the canvas.
      end: [S] bool, the states in which the canvas may end; one of them can be reached.
      room: the number of positions that the automaton has a say in, from the first on.
      key: PRNG key of the draw.
    """
    size = scores.best.shape[0]
    inside = jnp.arange(size) < room
    begin = jnp.where(jnp.arange(tables.num_states) == state, 0.0, LOW)
    uniform = jax.random.uniform(key, (size + 1,), jnp.float32)
    source, group, target = tables.source, tables.group, tables.target
    with_totals = scores.total is not None

    def onto(join: Callable, before: jax.Array, score: jax.Array, live: jax.Array) -> jax.Array:
        after = join(before[source] + score[group], target, tables.num_states, True)
        return jnp.where(live, _normal(after), before)

    def forth(before: Scores, x: tuple[Scores, jax.Array]) -> tuple[Scores, Scores]:
        score, live = x
        best = onto(_segment_max, before.best, score.best, live)
        total = onto(_segment_lse, before.total, score.total, live) if with_totals else None
        return Scores(best, total), before

    first = Scores(begin, begin if with_totals else None)
    last, before = jax.lax.scan(forth, first, (scores, inside))
    ends = jnp.where(end, 0.0, LOW)
    best = argmax(last.best + ends)
    drawn = _choose(last.total + ends, uniform[-1]) if with_totals else None
    rest = ends if with_totals else None

    def back(carry: tuple, x: tuple) -> tuple[tuple, Paths]:
        best, drawn, rest = carry
        before, score, live, uniform = x
        into = before.best[source] + score.best[group]
        edge = argmax(jnp.where(target == best, into, LOW * 1e3))
        best, best_group = jnp.where(live, source[edge], best), group[edge]
        if not with_totals:
            return (best, None, None), Paths(best_group, None, None)
        behind = rest[target]
        weights = _segment_lse(before.total[source] + behind, group, tables.num_groups, False)
        into = before.total[source] + score.total[group]
        edge = _choose(jnp.where(target == drawn, into, LOW * 1e3), uniform)
        drawn, drawn_group = jnp.where(live, source[edge], drawn), group[edge]
        rest_before = _segment_lse(score.total[group] + behind, source, tables.num_states, False)
        rest = jnp.where(live, _normal(rest_before), rest)
        return (best, drawn, rest), Paths(best_group, drawn_group, weights)

    columns = before, scores, inside, uniform[:-1]
    _, paths = jax.lax.scan(back, (best, drawn, rest), columns, reverse=True)
    return paths


def accepted_proposal(
    proposal: Proposal, scores: Scores, paths: Paths, tables: Tables, keys: jax.Array
) -> Proposal:
    """The proposal with the tokens and marginals of accepted strings.

    Args:
      proposal: what the model proposes.
      scores: [B, C, K], those of the classes.
      paths: those of each row [B].
      tables: the automaton.
      keys: [B] PRNG keys of the draw.
    """
    size, vocab_size = proposal.canvas.shape[1], len(tables.classes)
    member_class, member_group, classes = tables.member_class, tables.member_group, tables.classes

    def class_of(group: jax.Array, score: jax.Array, choose: Callable, *noise: Any) -> jax.Array:
        """A class of each position's group: group [B, c], score [B, c, K] -> [B, c]."""
        inside = member_group == group[..., None]
        return member_class[choose(jnp.where(inside, score[..., member_class], LOW * 1e3), *noise)]

    def best_of(x: tuple[jax.Array, Scores, Paths]) -> jax.Array:
        states, scores, paths = x
        logits = proposal.model.to_logits(states)
        return _best_token(logits, class_of(paths.best, scores.best, argmax), classes)

    def read(x: tuple) -> tuple[jax.Array, ...]:
        states, scores, paths, noise, uniform = x
        logits = proposal.model.to_logits(states)
        best = _best_token(logits, class_of(paths.best, scores.best, argmax), classes)
        tempered = logits / proposal.temperature
        own = class_of(paths.drawn, scores.total, _choose, uniform)[..., None] == classes
        top = jnp.max(jnp.where(own, tempered, LOW), axis=-1)
        weights = jnp.where(own, jnp.exp(tempered - top[..., None]), 0)
        drawn = draw(weights, top, noise, block_size(vocab_size))[1]
        weight = _segment_lse(
            paths.weights[..., member_group], member_class, tables.num_classes, False
        )
        tempered = tempered + weight.at[..., NEVER].set(LOW)[..., classes]
        log_p = jax.nn.log_softmax(tempered, axis=-1)
        entropy = -jnp.sum(jnp.exp(log_p) * jnp.maximum(log_p, LOW), axis=-1)
        soft = proposal.model.soft_embed(tempered).astype(states.dtype)
        candidates = None
        if proposal.candidates is not None:
            candidates = most_probable(log_p, proposal.candidates.ids.shape[-1])
        return best, drawn, entropy, soft, candidates

    if paths.drawn is None:
        best = by_chunks(best_of, (proposal.states, scores, paths), vocab_size)
        return proposal._replace(best=best)
    noise, uniform = _draw_noise(keys, size, vocab_size)
    found = by_chunks(read, (proposal.states, scores, paths, noise, uniform), vocab_size)
    best, drawn, entropy, soft, candidates = found
    # What the model says is a NaN stays one, because that is how it is found.
    entropy = jnp.where(jnp.isnan(proposal.entropy), proposal.entropy, entropy)
    return proposal._replace(
        best=best, drawn=drawn, entropy=entropy, soft=soft, candidates=candidates
    )


def _best_token(logits: jax.Array, klass: jax.Array, classes: jax.Array) -> jax.Array:
    """The most probable token of a class: logits [B, c, V], klass [B, c] -> [B, c] int32."""
    return argmax(jnp.where(klass[..., None] == classes, logits, LOW))


def _draw_noise(keys: jax.Array, size: int, vocab_size: int) -> tuple[DrawNoise, jax.Array]:
    """Noise for tokens [B, C], and uniform numbers [B, C] for classes."""

    def row(key: jax.Array) -> tuple[DrawNoise, jax.Array]:
        block, token, klass = jax.random.split(key, 3)
        blocks = size, vocab_size // block_size(vocab_size)
        gumbel = jax.random.gumbel(block, blocks, jnp.float32)
        return DrawNoise(gumbel, jax.random.uniform(token, (size,))), jax.random.uniform(
            klass, (size,)
        )

    return jax.vmap(row)(keys)


def _choose(scores: jax.Array, uniform: jax.Array) -> jax.Array:
    """Draws an index with a probability like exp(scores): [..., n] and uniform [...] -> [...]."""
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    below = jnp.cumsum(weights, axis=-1)
    # The target lies in (0, total], so that no index of weight 0 is drawn.
    target = (1 - uniform[..., None]) * below[..., -1:]
    return jnp.sum(below < target, axis=-1, dtype=jnp.int32)


def _normal(scores: jax.Array) -> jax.Array:
    """Scores less the largest one, so that rounding stays small; never below LOW."""
    return jnp.maximum(scores - jnp.max(scores), LOW)


def _segment_max(x: jax.Array, segment: jax.Array, num: int, is_sorted: bool) -> jax.Array:
    """The largest x of each segment, at least LOW: [..., n] -> [..., num]."""
    x = jnp.moveaxis(x, -1, 0)
    found = jax.ops.segment_max(x, segment, num, indices_are_sorted=is_sorted)
    return jnp.moveaxis(jnp.maximum(found, LOW), 0, -1)


def _segment_lse(x: jax.Array, segment: jax.Array, num: int, is_sorted: bool) -> jax.Array:
    """The log of the sum of exp(x) of each segment, at least LOW: [..., n] -> [..., num]."""
    top = _segment_max(x, segment, num, is_sorted)
    weights = jnp.moveaxis(jnp.exp(x - top[..., segment]), -1, 0)
    total = jax.ops.segment_sum(weights, segment, num, indices_are_sorted=is_sorted)
    total = jnp.moveaxis(total, 0, -1)
    return jnp.where(total > 0, jnp.maximum(top + jnp.log(jnp.maximum(total, 1e-37)), LOW), LOW)
