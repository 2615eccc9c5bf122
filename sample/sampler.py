"""The sampler: read the prompt, then denoise canvas after canvas and commit each (TR alg. 1).

`generate` goes from canvas to canvas. prefill() in prefill.py reads the prompt into a KV cache by
the causal `model.encode`, in chunks. `denoise_canvas` is the compiled loop over the steps of one
canvas; it only reads the cache, and step.py has one step. A row stops when step.settled() says so.
Its clean canvas is cut after the first stop token (stopping.py). commit() appends the canvas to the
cache by `model.encode` again, so that the next canvas sees it; the last canvas is not committed.

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

from diffusiongemma.attention import KVCache
from diffusiongemma.sharding import gather
from sample import stopping
from sample.batch import check_data, check_prompts, fold_in, row_keys
from sample.prefill import KeptPrompt, commit, prefill
from sample.split_model import SplitModel, split
from sample.step import (
    Rule,
    SamplerConfig,
    StartFunction,
    Step,
    entropy_bound_rule,
    noise_start,
    propose,
    settled,
)
from sample.timing import Clock


class Generation(NamedTuple):
    """What generate returns, as NumPy arrays. K canvases of C tokens, N = config.max_steps.

    Attributes:
      tokens: [B, max_new_tokens] int32; the stop token is kept, pad follows it.
      steps: [B, K] int32, denoising steps of each canvas; 0 for a canvas that was not begun.
      valid_tokens: [B, K] int32, a canvas' tokens up to and with the first stop token, within
        max_new_tokens.
      best: [B, K, N, C] int32, the argmax canvas of every step; -1 in steps not taken.
      accepted: [B, K, N, C] bool; False in steps not taken, and in the step that stopped early,
        because its draw is not used.
      entropy: [B, K, N, C] float32, nats; -1 in steps not taken.
      best, accepted and entropy are None without config.trajectory.
    """

    tokens: np.ndarray
    steps: np.ndarray
    valid_tokens: np.ndarray
    best: np.ndarray | None = None
    accepted: np.ndarray | None = None
    entropy: np.ndarray | None = None


class Snapshot(NamedTuple):
    """One step of the loop as a watcher sees it, in arrays on the host.

    Attributes:
      k: the canvas, from 0.
      n: the step, from 1.
      best, accepted, entropy: [B, C], as in Generation.
      live: [B] bool, the rows that took this step; the arrays mean nothing for the other rows.
    """

    k: jax.Array
    n: jax.Array
    best: jax.Array
    accepted: jax.Array
    entropy: jax.Array
    live: jax.Array


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
    ended: Callable[[np.ndarray], bool] | None = None,
    kept: KeptPrompt | None = None,
    watch: Callable[[Snapshot], bool | None] | None = None,
    clock: Clock | None = None,
) -> Generation:
    """Generates from a batch of prompts, canvas by canvas (TR alg. 1).

    Each row gets what it would get alone: neither padding nor the other rows matter to it. Its
    random numbers come from its own key. With a single `key`, that is a fold of the key and a
    checksum of the row's prompt, so identical prompts draw identically. Give one key for each row
    to have them differ.

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
      ended: called after each canvas with the tokens [n] int32 so far of each row that goes on; the
        row ends where it returns True.
      kept: the conversation that a prompt of one row belongs to. What was read for it before is not
        read again (prefill.py).
      watch: called at every step, in order, on another thread; it must not compute with JAX. If it
        returns True, that step is the canvas' last. The program waits for it; without a watch there
        is no callback in the program.
      clock: gets laps "setup", "prefill", "denoise" and "commit", each of which waits for the
        device.

    Raises:
      ValueError: shapes that do not match, a prompt without a real token, a key that is neither one
        key nor one for each row, a context longer than the model's, or several rows with `kept`.
      NonFiniteLogits: the logits of a step have a NaN.
    """
    model, config = split(model), config or SamplerConfig()
    lap = clock.lap if clock else lambda name, value=None: None
    canvas_size = config.canvas_size or model.config.canvas_size
    new_tokens = config.max_new_tokens or canvas_size
    num_canvases = -(-new_tokens // canvas_size)
    tokens, mask = check_prompts(tokens, mask, new_tokens, model.config.max_length)
    check_data(data, len(tokens), num_canvases)
    keys = row_keys(key, tokens, mask)
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
    cache = read(model, tokens, mask, cache_length, config.prefill_chunk)
    lap("prefill", cache)

    out = _blank(len(tokens), num_canvases, loop_config, model.config.pad_id)
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
        )
        _store(out, k, canvas)
        if watch:
            jax.effects_barrier()
        lap("denoise")
        stopping.check_finite(canvas.finite, f"canvas {k + 1}, step", canvas.steps)
        done = np.array(canvas.done)
        if ended is not None:
            for row in np.flatnonzero(~done):
                done[row] = ended(out.tokens[row, : k + 1].reshape(-1))
        if done.all() or k == num_canvases - 1:
            break
        cache = commit(model, cache, canvas.tokens, done)
        lap("commit", cache)
    return out._replace(tokens=out.tokens.reshape(len(tokens), -1)[:, :new_tokens])


class _Canvas(NamedTuple):
    """A finished canvas: the fields of Generation without the axis K, and two of its own.

    Attributes:
      done: [B] bool, rows that have ended.
      finite: [B] bool, rows whose logits had no NaN.
    """

    tokens: jax.Array
    steps: jax.Array
    valid_tokens: jax.Array
    best: jax.Array | None
    accepted: jax.Array | None
    entropy: jax.Array | None
    done: jax.Array
    finite: jax.Array


class _Loop(NamedTuple):
    """The denoising loop after n steps."""

    n: jax.Array  # int32 scalar
    canvas: jax.Array  # [B, C] int32
    soft: jax.Array  # [B, C, D]
    best: jax.Array  # [B, C] int32
    steps: jax.Array  # [B] int32
    stopped: jax.Array  # [B] bool
    finite: jax.Array  # [B] bool
    record: tuple[jax.Array, ...] | None  # best, accepted, entropy: [B, N, C]


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
) -> _Canvas:
    """Denoises canvas k of the rows that are not done, until the last of them has stopped.

    Args:
      model: the model, split.
      cache: the context of each row; only read.
      keys: [B] PRNG keys, the same for all canvases.
      done: [B] bool, rows that ended in an earlier canvas.
      k: the canvas, from 0.
      room: number of tokens that the generation may still take.
      config: the sampler's settings, canvas_size and stop_ids among them.
      watch, rule, start: as in generate.
      data: arrays for rule and start, with leading axis B.
    """
    module, keys = model.merge(), fold_in(keys, k)

    first = noise_start(module, fold_in(keys, 0), config)
    if start is not None:
        first = start(first, data)
    loop = _Loop(
        n=jnp.int32(0),
        canvas=first.canvas,
        soft=first.soft,
        best=jnp.full_like(first.canvas, -1),  # none
        steps=jnp.zeros_like(done, jnp.int32),
        stopped=done,
        finite=jnp.ones_like(done),
        record=_empty_record(first.canvas.shape, config),
    )

    def running(loop: _Loop) -> jax.Array:
        return (loop.n < config.max_steps) & ~jnp.all(loop.stopped)

    def one_step(loop: _Loop) -> _Loop:
        n = loop.n + 1
        proposal = propose(module, cache, loop.canvas, loop.soft, n, fold_in(keys, n), config)
        step = rule(proposal, data)
        stops = _stops(n, step, loop.best, config)
        # A NaN in the logits makes the entropy one. Such a row stops at once.
        finite = loop.finite & (loop.stopped | ~jnp.isnan(proposal.entropy).any(axis=1))
        seen = step.best, step.accepted & ~stops[:, None], step.entropy
        if watch:
            stops |= _shown(watch, Snapshot(k, n, *seen, ~loop.stopped))
        return _Loop(
            n=n,
            canvas=_where(loop.stopped, loop.canvas, step.canvas),
            soft=_where(loop.stopped, loop.soft, step.soft),
            best=_where(loop.stopped, loop.best, step.best),
            steps=_where(loop.stopped, loop.steps, loop.steps + 1),
            stopped=loop.stopped | stops | ~finite,
            finite=finite,
            record=_recorded(loop, seen),
        )

    loop = jax.lax.while_loop(running, one_step, loop)
    # Emit the argmax canvas, never the re-noised one.
    valid, ended = stopping.count_valid(loop.best, config.stop_ids, room)
    valid = jnp.where(done, 0, valid)
    tokens = stopping.cut(loop.best, valid, module.config.pad_id)
    record = loop.record or (None, None, None)
    return gather(
        _Canvas(tokens, loop.steps, valid, *record, done=done | ended, finite=loop.finite)
    )


def _stops(n: jax.Array, step: Step, previous: jax.Array, config: SamplerConfig) -> jax.Array:
    """The rows [B] that stop at step n; previous [B, C] is the step before's best."""
    if not config.early_stop:
        return jnp.zeros(previous.shape[:1], bool)
    threshold, counted = config.stop_threshold, step.counted
    return settled(n, step.entropy, step.best, previous, threshold, counted)


def _shown(watch: Callable[[Snapshot], bool | None], seen: Snapshot) -> jax.Array:
    """Shows a step to the watcher; returns whether it ends the canvas, a bool scalar."""

    def show(seen: Snapshot) -> np.bool_:
        return np.bool_(watch(seen) is True)

    return io_callback(show, jax.ShapeDtypeStruct((), bool), seen, ordered=True)


def _where(rows: jax.Array, these: jax.Array, others: jax.Array) -> jax.Array:
    """`these` [B, ...] in some rows [B] bool, `others` in the rest."""
    return jnp.where(rows.reshape(-1, *[1] * (these.ndim - 1)), these, others)


def _empty_record(shape: tuple[int, int], config: SamplerConfig) -> tuple[jax.Array, ...] | None:
    if not config.trajectory:
        return None
    batch_size, canvas_size = shape
    shape = (batch_size, config.max_steps, canvas_size)
    return tuple(jnp.full(shape, fill) for fill in (jnp.int32(-1), False, jnp.float32(-1)))


def _recorded(loop: _Loop, seen: tuple[jax.Array, ...]) -> tuple[jax.Array, ...] | None:
    """The record with a step's best, accepted and entropy [B, C] in the rows that took it."""
    if loop.record is None:
        return None
    return tuple(
        old.at[:, loop.n].set(_where(loop.stopped, old[:, loop.n], new))
        for old, new in zip(loop.record, seen, strict=True)
    )


def _canvas_data(data: Any, k: int) -> Any:
    return jax.tree.map(lambda array: array[:, k], data)


def _blank(batch_size: int, num_canvases: int, config: SamplerConfig, pad_id: int) -> Generation:
    """A Generation in which no canvas was begun; its tokens are [B, K, C]."""
    shape = (batch_size, num_canvases)
    record_shape = (*shape, config.max_steps, config.canvas_size)
    return Generation(
        tokens=np.full((*shape, config.canvas_size), pad_id, np.int32),
        steps=np.zeros(shape, np.int32),
        valid_tokens=np.zeros(shape, np.int32),
        best=np.full(record_shape, -1, np.int32) if config.trajectory else None,
        accepted=np.zeros(record_shape, bool) if config.trajectory else None,
        entropy=np.full(record_shape, -1, np.float32) if config.trajectory else None,
    )


def _store(out: Generation, k: int, canvas: _Canvas) -> None:
    for name, array in out._asdict().items():
        if array is not None:
            array[:, k] = np.asarray(getattr(canvas, name))
