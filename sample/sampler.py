"""The sampler: prefill the prompt, then denoise canvas after canvas and commit each."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffusiongemma.diffusion import temperature
from diffusiongemma.sharding import gather
from sample import stopping
from sample.batch import check_prompts, fold_in, row_keys
from sample.prefill import commit, prefill
from sample.split_model import Frozen, freeze
from sample.step import SamplerConfig, denoise_step, noise
from sample.timing import Clock


class Generation(NamedTuple):
    """What generate returns, as NumPy arrays. K canvases of C tokens, N = config.max_steps.

    Attributes:
      tokens: [B, max_new_tokens] int32; the stop token is kept, pad follows it.
      steps: [B, K] int32, calls of denoise for each canvas; 0 for one that was not begun.
      valid_tokens: [B, K] int32, a canvas' tokens up to and with the first stop token, within
        max_new_tokens.
      best: [B, K, N, C] int32, the argmax canvas of every step; -1 in steps not taken.
      accepted: [B, K, N, C] bool; False in steps not taken, and in the step that stopped early,
        which draws nothing.
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
    """One step of the loop, for who watches it, as arrays on the host.

    Attributes:
      k: which canvas, from 0.
      n: the step, from 1.
      best, accepted, entropy: [B, C], as of Generation.
      live: [B] bool, the rows that took this step; the others' figures mean nothing.
    """

    k: jax.Array
    n: jax.Array
    best: jax.Array
    accepted: jax.Array
    entropy: jax.Array
    live: jax.Array


def generate(
    model: nnx.Module | Frozen,
    tokens: jax.Array,
    mask: jax.Array | None,
    key: jax.Array,
    config: SamplerConfig | None = None,
    *,
    watch: Callable[[Snapshot], None] | None = None,
    clock: Clock | None = None,
) -> Generation:
    """Generates from a batch of prompts, canvas by canvas (TR alg. 1).

    A row gets what it would get alone: neither padding nor the other rows matter to it. Its random
    numbers come from its own key. With a single `key` that is a fold of the key and a checksum of
    the row's prompt, so identical prompts draw identically; give one key a row to have them differ.

    Compiled once for each shape, model structure and config (max_new_tokens matters to shapes
    only); the weights are arguments of the compiled programs.

    Args:
      model: DiffusionGemma, or what has its config, dtype, init_cache, encode and predict; for many
        calls better Frozen(model), which is taken apart once.
      tokens: [B, P] int32, prompts.
      mask: [B, P] bool, True at real tokens, wherever the padding is; None if all are real.
      key: a PRNG key, or one for each row in shape [B].
      config: how to sample; None for the published settings.
      watch: is called at every step, in order, on another thread; it must not compute with JAX. A
        program is compiled for each watch, which waits for it; without one there is no callback.
      clock: gets laps "setup", "prefill", "denoise" and "commit", which wait for the device.

    Raises:
      ValueError: shapes that do not match, a prompt without a real token, a key that is neither,
        or a context longer than the model's.
    """
    model, config = freeze(model), config or SamplerConfig()
    canvas_size = config.canvas_size or model.config.canvas_size
    new_tokens = config.max_new_tokens or canvas_size
    tokens, mask = check_prompts(tokens, mask, new_tokens, model.config.max_length)
    keys = row_keys(key, tokens, mask)
    stop_ids = model.config.stop_ids if config.stop_ids is None else config.stop_ids
    chunk = config.prefill_chunk
    config = dataclasses.replace(
        config,
        canvas_size=canvas_size,
        stop_ids=stop_ids,
        max_new_tokens=None,
        prefill_chunk=None,
    )

    structure, state = model.structure, model.state
    batch_size, num_canvases = tokens.shape[0], -(-new_tokens // canvas_size)
    # The last canvas is never committed.
    cache_length = tokens.shape[1] + (num_canvases - 1) * canvas_size
    if clock:
        clock.lap("setup", (keys, state))
    cache = prefill(structure, state, tokens, mask, cache_length, chunk)
    if clock:
        clock.lap("prefill", cache)
    out = _blank(batch_size, num_canvases, config, model.config.pad_id)
    done = np.zeros((batch_size,), bool)
    for k in range(num_canvases):
        limit = new_tokens - k * canvas_size
        canvas = denoise_canvas(structure, state, cache, keys, done, k, limit, config, watch)
        _store(out, k, canvas)
        if watch:
            jax.effects_barrier()
        if clock:
            clock.lap("denoise")
        done = np.asarray(canvas.done)
        if done.all() or k == num_canvases - 1:
            break
        cache = commit(structure, state, cache, canvas.tokens, done)
        if clock:
            clock.lap("commit", cache)
    flat = out.tokens.reshape(batch_size, -1)[:, :new_tokens]
    return out._replace(tokens=flat)


class _Canvas(NamedTuple):
    """A finished canvas: fields of Generation without the K axis, and done [B] bool."""

    tokens: jax.Array
    steps: jax.Array
    valid_tokens: jax.Array
    best: jax.Array | None
    accepted: jax.Array | None
    entropy: jax.Array | None
    done: jax.Array


class _Loop(NamedTuple):
    """State of the denoising loop after n steps."""

    n: jax.Array
    canvas: jax.Array  # [B, C] int32
    soft: jax.Array  # [B, C, D]
    best: jax.Array  # [B, C] int32
    steps: jax.Array  # [B] int32
    stopped: jax.Array  # [B] bool
    trajectory: tuple[jax.Array, ...] | None  # best, accepted, entropy: [B, N, C]


@functools.partial(jax.jit, static_argnames=("structure", "config", "watch"))
def denoise_canvas(structure, state, cache, keys, done, k, limit, config, watch) -> _Canvas:
    """Denoises canvas k of the rows that are not done, in one loop until the last has stopped."""
    model = structure.merge(state)
    vocab_size, pad_id = model.config.vocab_size, model.config.pad_id
    shape = (keys.shape[0], config.canvas_size)
    keys = fold_in(keys, k)

    trajectory = None
    if config.trajectory:
        trajectory = tuple(
            jnp.full((shape[0], config.max_steps, shape[1]), fill)
            for fill in (jnp.int32(-1), False, jnp.float32(-1))
        )
    first = _Loop(
        n=jnp.int32(0),
        canvas=noise(fold_in(keys, 0), shape[1], vocab_size),
        soft=jnp.zeros((*shape, model.config.width), model.dtype),
        best=jnp.full(shape, -1, jnp.int32),
        steps=jnp.zeros(shape[:1], jnp.int32),
        stopped=done,
        trajectory=trajectory,
    )

    def running(loop: _Loop) -> jax.Array:
        return (loop.n < config.max_steps) & ~jnp.all(loop.stopped)

    def body(loop: _Loop) -> _Loop:
        n = loop.n + 1
        t = 1 - loop.n / config.max_steps
        tau = temperature(t, config.min_temperature, config.max_temperature)
        step = denoise_step(
            model, loop.canvas, loop.soft, cache, fold_in(keys, n), tau, config.entropy_bound
        )
        stop = jnp.zeros_like(loop.stopped)
        if config.early_stop:
            stop = stopping.settled(n, step.entropy, step.best, loop.best, config.stop_threshold)

        def update(new, old):
            frozen = loop.stopped.reshape(-1, *[1] * (new.ndim - 1))
            return jnp.where(frozen, old, new)

        new = (step.best, step.accepted & ~stop[:, None], step.entropy)
        if watch:
            jax.debug.callback(watch, Snapshot(k, n, *new, ~loop.stopped), ordered=True)
        trajectory = loop.trajectory
        if trajectory is not None:
            trajectory = tuple(
                old.at[:, loop.n].set(update(x, old[:, loop.n]))
                for x, old in zip(new, trajectory, strict=True)
            )
        return _Loop(
            n=n,
            canvas=update(step.canvas, loop.canvas),
            soft=update(step.soft, loop.soft),
            best=update(step.best, loop.best),
            steps=update(loop.steps + 1, loop.steps),
            stopped=loop.stopped | stop,
            trajectory=trajectory,
        )

    last = jax.lax.while_loop(running, body, first)
    valid, ended = stopping.count_valid(last.best, config.stop_ids, limit)
    valid = jnp.where(done, 0, valid)
    tokens = stopping.cut(last.best, valid, pad_id)
    record = last.trajectory or (None, None, None)
    return gather(_Canvas(tokens, last.steps, valid, *record, done=done | ended))


def _blank(batch_size: int, num_canvases: int, config: SamplerConfig, pad_id: int) -> Generation:
    shape = (batch_size, num_canvases)
    steps_shape = (*shape, config.max_steps, config.canvas_size)
    return Generation(
        tokens=np.full((*shape, config.canvas_size), pad_id, np.int32),
        steps=np.zeros(shape, np.int32),
        valid_tokens=np.zeros(shape, np.int32),
        best=np.full(steps_shape, -1, np.int32) if config.trajectory else None,
        accepted=np.zeros(steps_shape, bool) if config.trajectory else None,
        entropy=np.full(steps_shape, -1, np.float32) if config.trajectory else None,
    )


def _store(out: Generation, k: int, canvas: _Canvas) -> None:
    for name, array in out._asdict().items():
        if array is not None:
            array[:, k] = np.asarray(getattr(canvas, name))
