"""The sampler: read the prompt, then denoise canvas after canvas and commit each (TR alg. 1).

`generate` goes from canvas to canvas. prefill() in prefill.py reads the prompt into a KV cache by
the causal `model.encode`, in chunks. `denoise_canvas` is the compiled loop over the steps of one
canvas; it only reads the cache, and step.py has one step. A row stops when step.settled() says so.
Its clean canvas is cut after the first stop token (stopping.py); with several starts it is that of
the surest one (starts.py). commit() appends the canvas to the cache by `model.encode` again, so
that the next canvas sees it; the last canvas is not committed.

Under `jax.disable_jit()` the loop is a Python loop: a print in it, or in a rule, shows the numbers
of every step. Training is in train/loss.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import io_callback

from diffusiongemma import Images
from diffusiongemma.attention import KVCache
from diffusiongemma.sharding import gather
from sample import stopping
from sample.batch import check_data, check_prompts, check_settings, fold_in, row_keys
from sample.candidates import with_candidates
from sample.generation import Generation, Snapshot, blank, not_taken, store
from sample.given import (
    CanvasGiven,
    Given,
    by_canvas,
    check_given,
    keep_in_step,
    keep_proposed,
    start_from,
)
from sample.images import row_contents
from sample.obey import ACCEPTED, CanvasObey, Constraint, advance, find_completions, obey_proposed
from sample.prefill import KeptPrompt, commit, prefill
from sample.split_model import SplitModel, split
from sample.starts import Starts, by_row, for_starts, start_keys, surest, take
from sample.step import (
    Candidates,
    Rule,
    SamplerConfig,
    Start,
    StartFunction,
    begin_again,
    entropy_bound_rule,
    mean_entropy,
    noise_start,
    propose,
    settled,
)
from sample.timing import Clock


def generate(
    model: nnx.Module | SplitModel,
    tokens: jax.Array,
    mask: jax.Array | None,
    key: jax.Array,
    config: SamplerConfig | None = None,
    *,
    rule: Rule = entropy_bound_rule,
    start: StartFunction | None = None,
    data: Any = None,
    images: Images | None = None,
    given: Given | None = None,
    obey: Constraint | None = None,
    ended: Callable[[np.ndarray], bool] | None = None,
    kept: KeptPrompt | None = None,
    watch: Callable[[Snapshot], bool | None] | None = None,
    clock: Clock | None = None,
) -> Generation:
    """Generates from a batch of prompts, canvas by canvas (TR alg. 1).

    Each row gets what it would get alone: neither padding nor the other rows matter to it. Its
    random numbers come from its own key. With a single `key`, that is a fold of the key and a
    checksum of the row's prompt and images, so identical prompts draw identically. Give one key for
    each row to have them differ. With several starts, each start has a key of its own (starts.py).

    A program is compiled for each shape, model structure, config, rule, start and watch. In the
    config, max_new_tokens matters to shapes only. The weights are arguments of the programs.

    Args:
      model: DiffusionGemma, or a double with its config, dtype, init_cache, encode and predict. For
        many calls give a SplitModel, so that the model is split only once.
      tokens: [B, P] int32, prompts.
      mask: [B, P] bool, True at real tokens, wherever the padding is; None if all are real.
      key: a PRNG key, or [B] of them.
      config: how to sample; None for the published settings.
      rule: makes a step of what the model proposes (step.py). Pass the same function each time:
        another function, even of the same code, compiles anew.
      start: changes what a canvas starts from (step.py); None for noise.
      data: arrays [B, K, ...] in any pytree, for rule and start, which get [:, k] of each for
        canvas k.
      images: the images of the prompts' image tokens, in their order, row by row; None if there are
        none.
      given: tokens that stay in the answer, or that its canvases start from (given.py). A row does
        not end before its last kept token. None: nothing is given.
      obey: what the text of every answer must be (obey.py). None: anything.
      ended: called after each canvas with the tokens [n] int32 so far of each row that goes on; the
        row ends where it returns True, unless kept tokens follow.
      kept: the conversation that a prompt of one row belongs to. What was read for it before is not
        read again (prefill.py).
      watch: called at every step, in order, on another thread; it must not compute with JAX. If it
        returns True, that step is the canvas' last. The program waits for it; without a watch there
        is no callback in the program.
      clock: gets laps "setup", "prefill", "denoise" and "commit", each of which waits for the
        device.

    Raises:
      ValueError: shapes that do not match, a prompt without a real token, a key that is neither one
        key nor one for each row, a context longer than the model's, several rows with `kept`,
        images that do not fit (vision/images.py), given tokens that cannot be used (check_given),
        or a constraint that no answer of max_new_tokens can meet (obey.find_completions).
      NonFiniteLogits: the logits of a step have a NaN.
    """
    model, config = split(model), config or SamplerConfig()
    lap = clock.lap if clock else lambda name, value=None: None
    canvas_size = config.canvas_size or model.config.canvas_size
    new_tokens = config.max_new_tokens or canvas_size
    num_canvases = -(-new_tokens // canvas_size)
    check_settings(canvas_size, config.stop_ids, model.config)
    tokens, mask = check_prompts(tokens, mask, new_tokens, model.config.max_length)
    check_data(data, len(tokens), num_canvases)
    if given is not None:
        given = check_given(given, len(tokens), new_tokens, model.config.vocab_size)
    if obey is not None:
        completions = find_completions(obey.automaton, new_tokens, given)
        state = np.zeros(len(tokens), np.int32)
    if given is not None:
        given = by_canvas(given, canvas_size)
    shown = row_contents(model.config, images, tokens, mask)
    keys = row_keys(key, tokens, mask, shown)
    loop_config = dataclasses.replace(  # without what the loop does not depend on
        config,
        canvas_size=canvas_size,
        stop_ids=model.config.stop_ids if config.stop_ids is None else config.stop_ids,
        max_new_tokens=None,
        prefill_chunk=None,
    )
    lap("setup", (keys, model.state))

    cache_length = tokens.shape[1] + (num_canvases - 1) * canvas_size  # the last is not committed
    read = prefill if kept is None else kept.prefill
    cache = read(model, tokens, mask, cache_length, config.prefill_chunk, images)
    lap("prefill", cache)

    out = blank(len(tokens), num_canvases, loop_config, model.config.pad_id)
    done = np.zeros(len(tokens), bool)
    for k in range(num_canvases):
        room = new_tokens - k * canvas_size
        canvas = denoise_canvas(
            model,
            cache,
            keys,
            done,
            k,
            room,
            loop_config,
            watch=watch,
            rule=rule,
            start=start,
            data=_canvas_data(data, k),
            given=_canvas_data(given, k),
            obey=None if obey is None else completions.canvas(obey, state, k, canvas_size),
        )
        store(out, k, canvas.out)
        if watch:
            jax.effects_barrier()
        lap("denoise")
        broken = np.asarray(canvas.broken)
        stopping.check_finite(broken == 0, f"canvas {k + 1}, step", broken)
        done = np.array(canvas.done)
        if ended is not None:
            open_end = np.ones_like(done) if given is None else ~given.goes_on[:, k, -1]
            for row in np.flatnonzero(~done):
                done[row] = ended(out.tokens[row, : k + 1].reshape(-1)) and open_end[row]
        if done.all() or k == num_canvases - 1:
            break
        if obey is not None:
            state = np.asarray(advance(obey.tables, state, canvas.out.tokens))
        cache = commit(model, cache, canvas.out.tokens, done)
        lap("commit", cache)
    return out._replace(tokens=out.tokens.reshape(len(tokens), -1)[:, :new_tokens])


class _Canvas(NamedTuple):
    """A finished canvas of each row.

    Attributes:
      out: a Generation without the axis K; its tokens are [B, C].
      done: [B] bool, rows that have ended.
      broken: [B] int32, the step at which the logits had a NaN, in one of the starts; 0 if none.
    """

    out: Generation
    done: jax.Array
    broken: jax.Array


class _Seen(NamedTuple):
    """What a step shows of each of R canvases: [R, C], and the candidates [R, C, k].

    `canvas` is what the model saw. It is None if nobody looks at the steps.
    """

    best: jax.Array
    accepted: jax.Array
    entropy: jax.Array
    canvas: jax.Array | None = None
    candidates: Candidates | None = None


class _Loop(NamedTuple):
    """The denoising loop after n steps. It has R = B S canvases, the starts of B rows."""

    n: jax.Array  # int32 scalar
    canvas: jax.Array  # [R, C] int32
    soft: jax.Array  # [R, C, D]
    seen: _Seen  # [R, C], of each canvas' last step
    mean: jax.Array  # [R] float32, nats, the mean entropy of that step; -1 before the first
    steps: jax.Array  # [R] int32
    stopped: jax.Array  # [R] bool
    finite: jax.Array  # [R] bool
    record: _Seen | None  # [R, N, C]


@functools.partial(jax.jit, static_argnames=("config", "watch", "rule", "start"))
def denoise_canvas(
    model: SplitModel,
    cache: KVCache,
    keys: jax.Array,
    done: jax.Array,
    k: jax.Array | int,
    room: jax.Array | int,
    config: SamplerConfig,
    *,
    watch: Callable[[Snapshot], bool | None] | None = None,
    rule: Rule = entropy_bound_rule,
    start: StartFunction | None = None,
    data: Any = None,
    given: CanvasGiven | None = None,
    obey: CanvasObey | None = None,
) -> _Canvas:
    """Denoises canvas k of the rows that are not done, until the last start of them has stopped.

    Args:
      model: the model, split.
      cache: the context of each row, which its starts share; only read.
      keys: [B] PRNG keys, the same for all canvases.
      done: [B] bool, rows that ended in an earlier canvas.
      k: the canvas, from 0.
      room: number of tokens that the generation may still take.
      config: the sampler's settings, canvas_size and stop_ids among them.
      watch, rule, start: as in generate.
      data: arrays for rule and start, with leading axis B.
      given: the tokens that are given for the canvas.
      obey: the constraint on the canvas.
    """
    module, starts = model.merge(), config.starts
    keys = fold_in(start_keys(keys, starts), k)
    not_begun, data, given = for_starts((done, data, given), starts)
    if obey is not None:
        obey = obey.with_rows(for_starts((obey.state, obey.end), starts))

    def begin(noise: Start) -> Start:
        begun = noise if start is None else start(noise, data)
        return begun if given is None else start_from(begun, given)

    noise = noise_start(module, fold_in(keys, 0), config)
    first = begin(noise)
    shown = config.trajectory or watch is not None
    nothing = _Seen(*not_taken(jnp.full, first.canvas.shape, shown, config.candidates))
    loop = _Loop(
        n=jnp.int32(0),
        canvas=first.canvas,
        soft=first.soft,
        seen=nothing,
        mean=jnp.full(not_begun.shape, -1.0, jnp.float32),
        steps=jnp.zeros_like(not_begun, jnp.int32),
        stopped=not_begun,
        finite=jnp.ones_like(not_begun),
        record=_empty_record(nothing, config),
    )

    def running(loop: _Loop) -> jax.Array:
        return (loop.n < config.max_steps) & ~jnp.all(loop.stopped)

    def one_step(loop: _Loop) -> _Loop:
        n = loop.n + 1
        proposal = propose(module, cache, loop.canvas, loop.soft, n, fold_in(keys, n), config)
        if config.candidates:
            proposal = with_candidates(proposal)
        if obey is not None:
            draw_keys = fold_in(fold_in(keys, n), ACCEPTED)
            proposal = obey_proposed(proposal, obey, given, room, draw_keys)
        if given is not None:
            proposal = keep_proposed(proposal, given)
        step = rule(proposal, data)
        if obey is not None:
            step = step._replace(best=proposal.best)
        if given is not None:
            step = keep_in_step(step, proposal, given)
        previous, threshold = loop.seen.best, config.stop_threshold
        calm = settled(n, step.entropy, step.best, previous, threshold, step.counted)
        stops = calm if config.early_stop else jnp.zeros_like(calm)
        if config.restart_every:
            fresh = begin(noise._replace(canvas=proposal.noise, keys=proposal.keys))
            step = begin_again(step, fresh, ~calm & (n % config.restart_every == 0))
        # A NaN in the logits makes the entropy one. Such a row stops at once.
        finite = loop.finite & (loop.stopped | ~jnp.isnan(proposal.entropy).any(axis=1))
        new = _Seen(
            step.best,
            step.accepted & ~stops[:, None],
            step.entropy,
            loop.canvas if shown else None,
            proposal.candidates,
        )
        keep = functools.partial(_where, loop.stopped)
        seen = jax.tree.map(keep, loop.seen, new)
        mean = keep(loop.mean, mean_entropy(step.entropy, step.counted))
        if watch:
            leading = surest(mean, starts)
            live = by_row(~loop.stopped, starts).any(axis=1)
            led, there = jax.tree.map(lambda x: take(x, leading), (seen, given))
            snapshot = Snapshot(k, n, *led[:3], live, there, led.canvas, led.candidates)
            stops |= _shown(watch, snapshot)
        return _Loop(
            n=n,
            canvas=keep(loop.canvas, step.canvas),
            soft=keep(loop.soft, step.soft),
            seen=seen,
            mean=mean,
            steps=keep(loop.steps, loop.steps + 1),
            stopped=loop.stopped | stops | ~finite,
            finite=finite,
            record=_recorded(loop, new),
        )

    loop = jax.lax.while_loop(running, one_step, loop)
    # Emit the argmax canvas, never the re-noised one.
    goes_on = None if given is None else given.goes_on
    valid, ended = stopping.count_valid(loop.seen.best, config.stop_ids, room, goes_on)
    valid = jnp.where(not_begun, 0, valid)
    tokens = stopping.cut(loop.seen.best, valid, module.config.pad_id)
    every = None
    if starts > 1:
        every = by_row(Starts(tokens, loop.steps, valid, loop.mean), starts)
    chosen, record = surest(loop.mean, starts), loop.record or (None,) * len(_Seen._fields)
    tokens, valid, ended, *record = jax.tree.map(
        lambda x: take(x, chosen), (tokens, valid, ended, *record)
    )
    steps = by_row(loop.steps, starts).sum(axis=1)
    broken = by_row(jnp.where(loop.finite, 0, loop.steps), starts).max(axis=1)
    record = dict(zip(_Seen._fields, record, strict=True))
    out = Generation(tokens, steps, valid, starts=every, **record)
    return gather(_Canvas(out, done | ended, broken))


def _shown(watch: Callable[[Snapshot], bool | None], seen: Snapshot) -> jax.Array:
    """Shows a step to the watcher; returns whether it ends the canvas, a bool scalar."""

    def show(seen: Snapshot) -> np.bool_:
        return np.bool_(watch(seen) is True)

    return io_callback(show, jax.ShapeDtypeStruct((), bool), seen, ordered=True)


def _where(rows: jax.Array, these: jax.Array, others: jax.Array) -> jax.Array:
    """`these` [B, ...] in some rows [B] bool, `others` in the rest."""
    return jnp.where(rows.reshape(-1, *[1] * (these.ndim - 1)), these, others)


def _empty_record(nothing: _Seen, config: SamplerConfig) -> _Seen | None:
    """A record of config.max_steps steps that were not taken; `nothing` is one of them."""
    if not config.trajectory:
        return None
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], config.max_steps, axis=1), nothing)


def _recorded(loop: _Loop, new: _Seen) -> _Seen | None:
    """The record with what a step shows, in the rows that took it."""
    if loop.record is None:
        return None
    return jax.tree.map(
        lambda old, new: old.at[:, loop.n].set(_where(loop.stopped, old[:, loop.n], new)),
        loop.record,
        new,
    )


def _canvas_data(data: Any, k: int) -> Any:
    return jax.tree.map(lambda array: array[:, k], data)
