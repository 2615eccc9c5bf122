"""One denoising step (TR alg. 1): what the model proposes, and the rule that makes a step of it.

`propose` asks the model about a noisy canvas. A rule turns the proposal into a step: what is kept
and what becomes noise again. `settled` is the stop rule. The loop over steps is in sampler.py; read
on there.

B is the number of canvases in the loop. With several starts that is S for each row (starts.py).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusiongemma.attention import KVCache
from diffusiongemma.diffusion import initial_canvas, temperature
from diffusiongemma.head import DrawNoise, block_size
from files.fields import check_fields
from sample.batch import fold_in
from sample.prefill import CHUNK

# A step's keys folded with this are for draws of a rule's own: splitting in two takes 0 and 1.
OWN = 2


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """How to sample; the defaults are the published settings (TR alg. 1).

    Attributes:
      max_steps: largest number of denoising steps for a canvas (N).
      entropy_bound: a step accepts draws until their entropies sum to more than this (b, nats),
        which is above 0: with 0, rounding alone would decide where the model is certain.
      stop_threshold: a canvas may stop when its mean entropy is at most this (e, nats).
      min_temperature: the temperature falls linearly from max_temperature towards this, as
        tau(t) = min + (max - min) t with t = 1, 1 - 1/N, ..., 1/N.
      max_temperature: temperature of the first step.
      early_stop: stop a canvas when it has settled. Without this every canvas takes max_steps.
      max_new_tokens: number of tokens to generate. Default: one canvas.
      canvas_size: number of tokens in a canvas (C). Default: that of the model.
      stop_ids: ids of the tokens that end a generation. Default: those of the model. An empty list
        means none.
      trajectory: record every step: the canvas that the model saw, the best tokens, the accepted
        positions and the entropies.
      candidates: number of most probable tokens of every position to record at every step, with
        their probabilities. They need trajectory. With 0, nothing is computed for them. A page of
        sample.main has 5 unless the flag is given.
      prefill_chunk: largest number of prompt tokens that are read at a time. None: all at once.
      starts: number of times that each canvas is denoised, each from noise of its own (S). The one
        with the lowest mean entropy is taken. The steps of all of them count.
      restart_every: number of steps after which a canvas that has not settled begins again, as at
        its start but from other noise, and again after as many. The steps count on. Default: it
        never does.

    Raises:
      ValueError: a field is out of range.
    """

    max_steps: int = 48
    entropy_bound: float = 0.1
    stop_threshold: float = 0.005
    min_temperature: float = 0.4
    max_temperature: float = 0.8
    early_stop: bool = True
    max_new_tokens: int | None = None
    canvas_size: int | None = None
    stop_ids: tuple[int, ...] | None = None
    trajectory: bool = False
    candidates: int = 0
    prefill_chunk: int | None = CHUNK
    starts: int = 1
    restart_every: int | None = None

    def __post_init__(self):
        if self.stop_ids is not None:
            object.__setattr__(self, "stop_ids", tuple(self.stop_ids))
        check_fields(self)
        for name in (
            *("max_steps", "max_new_tokens", "canvas_size"),
            *("prefill_chunk", "starts", "restart_every"),
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not self.entropy_bound > 0:
            # A sum of entropies that are 0 but for rounding is then above or below by chance.
            raise ValueError(f"entropy_bound must be above 0, not {self.entropy_bound}")
        if not self.stop_threshold >= 0:
            raise ValueError(f"stop_threshold must not be negative, got {self.stop_threshold}")
        low, high = self.min_temperature, self.max_temperature
        if not 0 < low <= high:
            raise ValueError(f"temperatures must be 0 < min <= max, got min {low} and max {high}")
        if self.candidates < 0:
            raise ValueError(f"candidates must be at least 0, not {self.candidates}")
        if self.candidates and not self.trajectory:
            raise ValueError("candidates are recorded with the trajectory: they need trajectory")


class Start(NamedTuple):
    """What the loop starts from, before the model is asked.

    Attributes:
      canvas: [B, C] int32, uniform noise over the vocabulary.
      soft: [B, C, D], zeros.
      keys: [B] PRNG keys for draws of a start function's own.
      config: the sampler's settings.
      model: the model.
    """

    canvas: jax.Array
    soft: jax.Array
    keys: jax.Array
    config: SamplerConfig
    model: Any


class Candidates(NamedTuple):
    """The k most probable tokens of positions, the most probable one first.

    Attributes:
      ids: [B, C, k] int32; -1 where there are fewer.
      probabilities: [B, C, k] float32, at the step's temperature.
    """

    ids: jax.Array
    probabilities: jax.Array


class Proposal(NamedTuple):
    """What a rule may choose from at one step: what the model says, and fresh noise.

    Attributes:
      n: int32 scalar, the step, from 1 to N.
      t: float32 scalar, the noise level, which falls from 1 to 1/N.
      temperature: float32 scalar, tau(t); it divides the logits of draws and entropies.
      canvas: [B, C] int32, the noisy canvas that the model has seen.
      best: [B, C] int32, the most probable token of every position.
      drawn: [B, C] int32, a draw from the tempered distribution of every position.
      entropy: [B, C] float32, nats, of the tempered distributions.
      soft: [B, C, D], mean embedding under the tempered distributions.
      noise: [B, C] int32, fresh uniform noise over the vocabulary.
      keys: [B] PRNG keys for draws of the rule's own.
      config: the sampler's settings.
      model: the model. model.embedder.encode(tokens) is the `soft` of tokens that are certain, and
        model.soft_embed(logits / temperature) that of other logits.
      states: [B, C, D], the hidden states that `logits` reads; None if the model does not tell.
      free: [B, C] bool, the positions that are not kept (given.py); None for all. At the others,
        best, drawn and noise are the kept token, and the entropy is 0.
      candidates: the most probable tokens; None if config.candidates is 0.
    """

    n: jax.Array
    t: jax.Array
    temperature: jax.Array
    canvas: jax.Array
    best: jax.Array
    drawn: jax.Array
    entropy: jax.Array
    soft: jax.Array
    noise: jax.Array
    keys: jax.Array
    config: SamplerConfig
    model: Any
    states: jax.Array | None
    free: jax.Array | None = None
    candidates: Candidates | None = None

    def logits(self) -> jax.Array:
        """[B, C, V] float32, softcapped, before the temperature; the loop itself needs none."""
        return self.model.to_logits(self.states)


class Step(NamedTuple):
    """What the loop goes on with.

    Attributes:
      best: [B, C] int32, the clean canvas as this step sees it; that of the last step is emitted,
        cut after its first stop token.
      entropy: [B, C] float32, nats; the mean over the counted positions decides on stopping, and
        among several starts.
      accepted: [B, C] bool, where the next canvas keeps this step's draw. It is only recorded.
      canvas: [B, C] int32, the noisy canvas of the next step.
      soft: [B, C, D], the self-conditioning of the next step.
      counted: [B, C] bool, the positions that decide on stopping and among several starts; None for
        all. A row that has none stops at its first step.
    """

    best: jax.Array
    entropy: jax.Array
    accepted: jax.Array
    canvas: jax.Array
    soft: jax.Array
    counted: jax.Array | None = None


# Plain functions that are traced like the rest of the loop. The second argument is the caller's
# arrays for this canvas, with leading axis B; rows must not depend on each other. With several
# starts, the caller's arrays are repeated for the starts of a row.
StartFunction = Callable[[Start, Any], Start]
Rule = Callable[[Proposal, Any], Step]


def entropy_bound_rule(proposal: Proposal, data: Any = None) -> Step:
    """The published rule (TR alg. 1): keep the surest draws, and make noise of the rest again."""
    accepted = accept(proposal.entropy, proposal.config.entropy_bound)
    return Step(
        best=proposal.best,
        entropy=proposal.entropy,
        accepted=accepted,
        canvas=jnp.where(accepted, proposal.drawn, proposal.noise),
        soft=proposal.soft,
    )


def begin_again(step: Step, fresh: Start, rows: jax.Array) -> Step:
    """A step behind which some rows [B] bool begin again, from a fresh start."""
    rows = rows[:, None]
    return step._replace(
        accepted=step.accepted & ~rows,
        canvas=jnp.where(rows, fresh.canvas, step.canvas),
        soft=jnp.where(rows[..., None], fresh.soft, step.soft),
    )


def accept(entropy: jax.Array, bound: float, free: jax.Array | None = None) -> jax.Array:
    """The positions that keep their draw (TR alg. 1).

    Positions are ordered by entropy ascending, ties by position. The longest prefix is accepted
    whose entropies, without the last one's own, sum to at most the bound: always at least one.

    Args:
      entropy: [B, C] float32, nats.
      bound: b > 0, nats.
      free: [B, C] bool, the positions that take part; None for all. The others are in neither the
        order nor the sum, and are never accepted.

    Returns:
      [B, C] bool.
    """
    if free is not None:
        return accept(jnp.where(free, entropy, jnp.inf), bound) & free
    order = jnp.argsort(entropy, axis=-1, stable=True)
    ascending = jnp.take_along_axis(entropy, order, axis=-1)
    before = jnp.cumsum(ascending[:, :-1], axis=-1)
    keep = jnp.pad(before <= bound, ((0, 0), (1, 0)), constant_values=True)
    return jnp.put_along_axis(jnp.zeros_like(keep), order, keep, axis=-1, inplace=False)


def settled(
    n: jax.Array,
    entropy: jax.Array,
    best: jax.Array,
    previous: jax.Array,
    threshold: float,
    counted: jax.Array | None = None,
) -> jax.Array:
    """The early stop of TR alg. 1: the model is confident and has not changed its mind.

    Args:
      n: the step, from 1; the first step never stops a row that has a counted position.
      entropy: [B, C] float32, nats.
      best, previous: [B, C] int32, the argmax canvases of this step and of the step before.
      threshold: largest mean entropy at which a row stops.
      counted: [B, C] bool, the positions that decide; None for all.

    Returns:
      [B] bool.
    """
    same, sure = best == previous, mean_entropy(entropy, counted) <= threshold
    if counted is None:
        return (n > 1) & jnp.all(same, axis=1) & sure
    unchanged = jnp.all(same | ~counted, axis=1)
    return ((n > 1) | ~jnp.any(counted, axis=1)) & unchanged & sure


def mean_entropy(entropy: jax.Array, counted: jax.Array | None = None) -> jax.Array:
    """The mean entropy of each row over its counted positions.

    Args:
      entropy: [B, C] float32, nats.
      counted: [B, C] bool; None for all positions.

    Returns:
      [B] float32, nats; 0 for a row without a counted position.
    """
    if counted is None:
        return jnp.mean(entropy, axis=1)
    total = jnp.sum(counted, axis=1)
    return jnp.sum(jnp.where(counted, entropy, 0), axis=1) / jnp.maximum(total, 1)


def noise_start(model: Any, keys: jax.Array, config: SamplerConfig) -> Start:
    """x ~ Uniform(V)^C, soft = 0.

    Args:
      model: gives config and dtype.
      keys: [B] PRNG keys.
      config: the sampler's settings, canvas_size among them.
    """
    canvas = noise(keys, config.canvas_size, model.config.vocab_size)
    soft = jnp.zeros((*canvas.shape, model.config.width), model.dtype)
    return Start(canvas, soft, fold_in(keys, OWN), config, model)


def propose(
    model: Any,
    cache: KVCache,
    canvas: jax.Array,
    soft: jax.Array,
    n: jax.Array | int,
    keys: jax.Array,
    config: SamplerConfig,
) -> Proposal:
    """Asks the model for the clean canvas behind a noisy one, at step n of 1..N.

    Args:
      model: DiffusionGemma, or a double with its config and predict.
      cache: the context; only read.
      canvas: [B, C] int32.
      soft: [B, C, D], the self-conditioning; zeros at the first step.
      n: the step.
      keys: [B] PRNG keys of this step.
      config: the sampler's settings.
    """
    t = 1 - (n - 1) / config.max_steps
    tau = temperature(t, config.min_temperature, config.max_temperature)
    size, vocab_size = canvas.shape[1], model.config.vocab_size
    draw_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    found = model.predict(canvas, cache, soft, tau, draw_noise(draw_keys, size, vocab_size))
    return Proposal(
        n=n,
        t=t,
        temperature=tau,
        canvas=canvas,
        best=found.best,
        drawn=found.drawn,
        entropy=found.entropy,
        soft=found.soft,
        noise=noise(noise_keys, size, vocab_size),
        keys=fold_in(keys, OWN),
        config=config,
        model=model,
        states=found.states,
    )


def draw_noise(keys: jax.Array, canvas_size: int, vocab_size: int) -> DrawNoise:
    """Random numbers of one draw at every position; each row's come from its own key [B]."""
    blocks = vocab_size // block_size(vocab_size)

    def row(key: jax.Array) -> DrawNoise:
        block, token = jax.random.split(key)
        return DrawNoise(
            jax.random.gumbel(block, (canvas_size, blocks), jnp.float32),
            jax.random.uniform(token, (canvas_size,), jnp.float32),
        )

    return jax.vmap(row)(keys)


def noise(keys: jax.Array, canvas_size: int, vocab_size: int) -> jax.Array:
    """A uniformly random canvas for each row's key: keys [B] -> [B, C] int32."""
    return jax.vmap(lambda key: initial_canvas(key, (canvas_size,), vocab_size))(keys)
