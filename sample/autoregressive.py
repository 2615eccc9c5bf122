"""Decoding left to right with the same weights: one encode for each token, and no canvas."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffusiongemma import Images
from diffusiongemma.attention import KVCache
from diffusiongemma.ops.reductions import argmax
from files.fields import check_fields
from sample.batch import check_prompts, fold_in, row_keys
from sample.given import Given, check_given, going_on
from sample.images import row_contents
from sample.obey import Constraint, DecodeObey, advance, allowed_logits, find_completions
from sample.prefill import CHUNK, KeptPrompt, prefill
from sample.split_model import SplitModel, split
from sample.stopping import check_finite, check_stop_ids, is_stop
from sample.timing import Clock

PIECE = 32  # tokens between two questions whether an answer has ended, each of which takes a wait


@dataclasses.dataclass(frozen=True)
class AutoregressiveConfig:
    """How to decode left to right.

    Attributes:
      max_new_tokens: number of tokens to generate.
      temperature: divides the logits before a draw. With 0 the most probable token is taken.
      top_k: draw among this many most probable tokens. With 0 the draw is among all.
      top_p: draw among the fewest most probable tokens that have at least this probability.
      stop_ids: ids of the tokens that end a generation. Default: those of the model. An empty list
        means none.
      prefill_chunk: largest number of prompt tokens that are read at a time. None: all at once.

    Raises:
      ValueError: a field is out of range.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] | None = None
    prefill_chunk: int | None = CHUNK

    def __post_init__(self):
        if self.stop_ids is not None:
            object.__setattr__(self, "stop_ids", tuple(self.stop_ids))
        check_fields(self)
        for name, least in (("max_new_tokens", 1), ("temperature", 0), ("top_k", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be within 0..1 and not 0, not {self.top_p}")
        if self.prefill_chunk is not None and self.prefill_chunk < 1:
            raise ValueError(f"prefill_chunk must be at least 1, not {self.prefill_chunk}")


class Continuation(NamedTuple):
    """What generate_autoregressive returns, as NumPy arrays.

    Attributes:
      tokens: [B, max_new_tokens] int32; the stop token is kept, pad follows it.
      valid_tokens: [B] int32, number of tokens up to and with the stop token, which is also the
        number of forward passes for the row.
    """

    tokens: np.ndarray
    valid_tokens: np.ndarray


def generate_autoregressive(
    model: nnx.Module | SplitModel,
    tokens: jax.Array,
    mask: jax.Array | None,
    key: jax.Array,
    config: AutoregressiveConfig | None = None,
    *,
    images: Images | None = None,
    given: Given | None = None,
    obey: Constraint | None = None,
    ended: Callable[[np.ndarray], bool] | None = None,
    kept: KeptPrompt | None = None,
    clock: Clock | None = None,
    piece: int | None = None,
) -> Continuation:
    """Continues a batch of prompts token by token.

    Each row gets what it would get alone. The arguments are those of `sampler.generate`; `ended` is
    called every `piece` tokens (default: PIECE), and the laps of the clock are "setup", "prefill"
    and "decode". Kept tokens take the place of drawn ones, and no drawn token knows those that
    follow it. Tokens that are given and not kept have no meaning here, because there is no canvas
    to start from.
    With a constraint, only those tokens are drawn after which the answer can still be completed.

    Raises:
      ValueError, NonFiniteLogits: as `sampler.generate`.
    """
    model, config = split(model), config or AutoregressiveConfig()
    lap = clock.lap if clock else lambda name, value=None: None
    check_stop_ids(config.stop_ids, model.config.vocab_size)
    tokens, mask = check_prompts(tokens, mask, config.max_new_tokens, model.config.max_length)
    shown = row_contents(model.config, images, tokens, mask)
    keys = row_keys(key, tokens, mask, shown)
    goes_on = None
    if given is not None:
        given = check_given(given, len(tokens), config.max_new_tokens, model.config.vocab_size)
        goes_on = going_on(given.keep)
    decoded = None
    if obey is not None:
        decoded = find_completions(obey.automaton, config.max_new_tokens, given).decode(obey)
    # Each row's last token is held back: it begins the loop, which reads a token and draws one.
    row, last = np.arange(len(tokens)), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    before = mask.copy()
    before[row, last] = False
    loop_config = dataclasses.replace(
        config,
        stop_ids=model.config.stop_ids if config.stop_ids is None else config.stop_ids,
        prefill_chunk=None,
    )
    lap("setup", (keys, model.state))
    cache_length = tokens.shape[1] + config.max_new_tokens
    read = prefill if kept is None else kept.prefill
    cache = read(model, tokens, before, cache_length, config.prefill_chunk, images)
    lap("prefill", cache)
    loop = _begin(tokens[row, last], cache, loop_config, model.config.pad_id)
    if decoded is not None:
        loop = loop._replace(state=jnp.zeros(len(tokens), jnp.int32))
    piece = config.max_new_tokens if ended is None else piece or PIECE
    for limit in range(piece, config.max_new_tokens + piece, piece):
        loop = _decode(model, loop, limit, keys, loop_config, given, goes_on, decoded)
        found, valid, done = map(np.array, (loop.tokens, loop.valid, loop.done))
        last = min(limit, config.max_new_tokens) - 1
        open_end = np.ones_like(done) if goes_on is None else ~goes_on[:, last]
        for i in np.flatnonzero(~done) if ended is not None else ():
            done[i] = ended(found[i, : valid[i]]) and open_end[i]
        if done.all():
            break
        loop = loop._replace(done=done)
    check_finite(loop.finite, "token", valid)
    lap("decode")
    return Continuation(found, valid)


class _Loop(NamedTuple):
    """The decoding loop after n tokens."""

    n: jax.Array
    cache: KVCache
    token: jax.Array  # [B] int32, not yet in the cache
    tokens: jax.Array  # [B, max_new_tokens] int32
    valid: jax.Array  # [B] int32
    done: jax.Array  # [B] bool
    finite: jax.Array  # [B] bool
    state: jax.Array | None = None  # [B] int32, the automaton's states behind the last token


def _begin(token: np.ndarray, cache: KVCache, config: AutoregressiveConfig, pad_id: int) -> _Loop:
    """The loop before the first token, in arrays of its own, because _decode donates them."""
    rows = len(token)
    return _Loop(
        n=jnp.int32(0),
        cache=cache,
        token=jnp.array(token),
        tokens=jnp.full((rows, config.max_new_tokens), pad_id, jnp.int32),
        valid=jnp.zeros((rows,), jnp.int32),
        done=jnp.zeros((rows,), bool),
        finite=jnp.ones((rows,), bool),
    )


@functools.partial(jax.jit, static_argnames=("config",), donate_argnames=("loop",))
def _decode(
    model: SplitModel,
    loop: _Loop,
    limit: int,
    keys: jax.Array,
    config: AutoregressiveConfig,
    given: Given | None,
    goes_on: np.ndarray | None,
    obey: DecodeObey | None,
) -> _Loop:
    """Goes on until each row has ended or has `limit` tokens, at most max_new_tokens."""
    module = model.merge()
    limit = jnp.minimum(limit, config.max_new_tokens)

    def running(loop: _Loop) -> jax.Array:
        return (loop.n < limit) & ~jnp.all(loop.done)

    def body(loop: _Loop) -> _Loop:
        logits, cache = module.encode(
            loop.token[:, None], loop.cache, ~loop.done[:, None], logits="last"
        )
        finite = loop.finite & (loop.done | ~jnp.isnan(logits).any(axis=-1))
        state = loop.state
        if obey is not None:
            logits = allowed_logits(obey.tables, state, obey.alive[:, loop.n + 1], logits)
        token = pick(fold_in(keys, loop.n), logits, config)
        stops = is_stop(token, config.stop_ids)
        if given is not None:
            keep, tokens, later = (jnp.asarray(x)[:, loop.n] for x in (*given[::-1], goes_on))
            token = jnp.where(keep, tokens, token)
            stops = is_stop(token, config.stop_ids) & ~later
        if obey is not None:
            state = advance(obey.tables, state, token[:, None])
        kept = jnp.where(loop.done, module.config.pad_id, token)
        return _Loop(
            n=loop.n + 1,
            cache=cache,
            token=token,
            tokens=loop.tokens.at[:, loop.n].set(kept),
            valid=loop.valid + ~loop.done,
            done=loop.done | stops | ~finite,
            finite=finite,
            state=state,
        )

    return jax.lax.while_loop(running, body, loop)


def pick(keys: jax.Array, logits: jax.Array, config: AutoregressiveConfig) -> jax.Array:
    """Picks a token for every row: keys [B], logits [B, V] float32 -> [B] int32.

    top_k is applied first, then top_p to the tokens that are left, renormalised. If equal logits
    lie at the edge of either, the tokens with the smaller ids stay.
    """
    if config.temperature == 0:
        return argmax(logits)
    logits = logits / config.temperature
    vocab_size = logits.shape[-1]
    if config.top_k or config.top_p < 1:
        values, ids = jax.lax.top_k(logits, min(config.top_k or vocab_size, vocab_size))
        probabilities = jax.nn.softmax(values, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        values = jnp.where(before < config.top_p, values, -jnp.inf)
    else:
        values, ids = logits, None
    noise = jax.vmap(lambda key: jax.random.gumbel(key, values.shape[1:], jnp.float32))(keys)
    chosen = argmax(values + noise)
    if ids is None:
        return chosen
    return jnp.take_along_axis(ids, chosen[:, None], axis=1)[:, 0]
