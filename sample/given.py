"""Given tokens: some stay in the answer, and others are where its canvases start from.

The first n tokens of an answer may be given, for any number of canvases. A token that is kept holds
its place at every step: it is never noise and never drawn, it has no part in the choice of draws
and in the decision to stop, and its soft embedding is the token's own embedding from the first step
on (docs/MODEL.md, Kept tokens). `generate(..., given=...)` uses this file on both sides of the
model and of the rule; a rule needs to know nothing of it.
"""

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.text.parts import NOTHING
from sample.batch import row_keys
from sample.step import Candidates, Proposal, Start, Step


class Given(NamedTuple):
    """The first n tokens of each row's answer, as far as they are known.

    Attributes:
      tokens: [B, n] int32; -1 where nothing is given. Such a position starts as noise, like all
        positions from n on.
      keep: [B, n] bool, the positions that stay as they are. A position that is given and not kept
        starts from its token instead of noise, and may change.
    """

    tokens: np.ndarray
    keep: np.ndarray


class CanvasGiven(NamedTuple):
    """What is given for a canvas of each row.

    Attributes:
      tokens: [B, C] int32, as in Given.
      keep: [B, C] bool, as in Given.
      goes_on: [B, C] bool, positions behind which there is a kept one, in this canvas or a later
        one. A stop token there does not end the row.
    """

    tokens: jax.Array
    keep: jax.Array
    goes_on: jax.Array


def check_given(given: Given, batch_size: int, new_tokens: int, vocab_size: int) -> Given:
    """Checks what is given.

    Args:
      given: what is given.
      batch_size: B.
      new_tokens: number of tokens that each row is to get.
      vocab_size: V.

    Returns:
      `given` as NumPy arrays [B, new_tokens], int32 and bool. Nothing is given behind the first n.

    Raises:
      ValueError: shapes or dtypes that do not fit, more than new_tokens, ids that are no tokens, or
        a position that is kept although nothing is given for it.
    """
    tokens, keep = np.asarray(given.tokens), np.asarray(given.keep)
    if tokens.ndim != 2 or tokens.shape[0] != batch_size or keep.shape != tokens.shape:
        raise ValueError(
            f"given tokens and keep must both be [{batch_size}, n], not {tokens.shape} and "
            f"{keep.shape}"
        )
    if not np.issubdtype(tokens.dtype, np.integer) or keep.dtype != bool:
        raise ValueError(
            f"given tokens must be integers and keep must be bool, not {tokens.dtype} and "
            f"{keep.dtype}"
        )
    if tokens.shape[1] > new_tokens:
        raise ValueError(f"{tokens.shape[1]} tokens are given, but only {new_tokens} are generated")
    wrong = (tokens < NOTHING) | (tokens >= vocab_size)
    if wrong.any():
        raise ValueError(
            f"{tokens[wrong][0]} is given as a token: use 0 to {vocab_size - 1}, or -1 for nothing"
        )
    if (empty := keep & (tokens == NOTHING)).any():
        row, position = np.argwhere(empty)[0]
        raise ValueError(
            f"position {position} of row {row} is kept, but nothing is given for it (its token is "
            "-1)"
        )
    room = ((0, 0), (0, new_tokens - tokens.shape[1]))
    return Given(np.pad(tokens.astype(np.int32), room, constant_values=NOTHING), np.pad(keep, room))


def going_on(keep: np.ndarray) -> np.ndarray:
    """Positions behind which there is a kept one: [B, N] bool -> [B, N] bool."""
    later = np.logical_or.accumulate(keep[:, ::-1], axis=1)[:, ::-1]
    return np.pad(later[:, 1:], ((0, 0), (0, 1)))


def given_keys(key: jax.Array, tokens: np.ndarray, mask: np.ndarray, given: Given) -> jax.Array:
    """Random keys for rows that may have the same prompt: [B] keys.

    `generate` folds one key with a checksum of each prompt. Here a checksum of what is given is
    folded in as well.

    Args:
      key: a PRNG key.
      tokens, mask: [B, P], the prompts, as generate takes them.
      given: what is given for the B rows.
    """
    rows = zip(np.asarray(given.tokens, "<i4"), np.asarray(given.keep, bool), strict=True)
    sums = [zlib.crc32(keep.tobytes(), zlib.crc32(ids.tobytes())) for ids, keep in rows]
    return jax.vmap(jax.random.fold_in)(row_keys(key, tokens, mask), np.array(sums, np.uint32))


def by_canvas(given: Given, canvas_size: int) -> CanvasGiven:
    """Divides what check_given returns into K canvases: arrays [B, K, C]."""
    size = given.tokens.shape[1]
    room = ((0, 0), (0, -size % canvas_size))
    tokens = np.pad(given.tokens, room, constant_values=NOTHING)
    keep = np.pad(given.keep, room)
    arrays = tokens, keep, going_on(keep)
    return CanvasGiven(*(x.reshape(len(x), -1, canvas_size) for x in arrays))


def start_from(first: Start, given: CanvasGiven) -> Start:
    """The start of a canvas, with what is given in the place of noise."""
    return first._replace(
        canvas=jnp.where(given.tokens == NOTHING, first.canvas, given.tokens),
        soft=certain_soft(first.soft, first.model, given.tokens, given.keep),
    )


def keep_proposed(proposal: Proposal, given: CanvasGiven) -> Proposal:
    """What the model proposes, with the kept tokens as certain ones.

    They have no entropy. So the rule puts them first in its order, and they add nothing to the sum
    that it bounds: the other positions are chosen as if these were not there.
    """
    tokens, keep = given.tokens, given.keep
    candidates = proposal.candidates
    if candidates is not None:
        first = jnp.arange(candidates.ids.shape[-1]) == 0
        here = keep[..., None]
        candidates = Candidates(
            jnp.where(here, jnp.where(first, tokens[..., None], NOTHING), candidates.ids),
            jnp.where(here, jnp.float32(first), candidates.probabilities),
        )
    return proposal._replace(
        best=jnp.where(keep, tokens, proposal.best),
        drawn=jnp.where(keep, tokens, proposal.drawn),
        noise=jnp.where(keep, tokens, proposal.noise),
        entropy=jnp.where(keep, 0, proposal.entropy),
        soft=certain_soft(proposal.soft, proposal.model, tokens, keep),
        free=~keep,
        candidates=candidates,
    )


def keep_in_step(step: Step, proposal: Proposal, given: CanvasGiven) -> Step:
    """A rule's step, with the kept tokens at their places whatever the rule does."""
    tokens, free = given.tokens, ~given.keep
    return Step(
        best=jnp.where(free, step.best, tokens),
        entropy=jnp.where(free, step.entropy, 0),
        accepted=step.accepted & free,
        canvas=jnp.where(free, step.canvas, tokens),
        soft=certain_soft(step.soft, proposal.model, tokens, given.keep),
        counted=free if step.counted is None else step.counted & free,
    )


def certain_soft(soft: jax.Array, model: object, tokens: jax.Array, keep: jax.Array) -> jax.Array:
    """Soft embeddings with those of the kept tokens where these are.

    Args:
      soft: [..., C, D], soft embeddings.
      model: embeds tokens.
      tokens: [..., C] int32, the kept tokens; any value elsewhere.
      keep: [..., C] bool, the positions of the kept tokens.
    """
    certain = model.embedder.encode(jnp.maximum(tokens, 0)).astype(soft.dtype)
    return jnp.where(keep[..., None], certain, soft)
