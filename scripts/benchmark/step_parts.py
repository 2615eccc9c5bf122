"""The parts of a denoising step as compiled programs, and what they must move and compute."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig, head
from diffusiongemma.attention import KVCache, denoise_contexts
from sample.prefill import prefill
from sample.sampler import denoise_canvas
from sample.split_model import SplitModel, Structure
from sample.step import SamplerConfig, entropy_bound_rule, propose

EXPERTS = (".moe.gate_up.", ".moe.down.")


@dataclasses.dataclass
class Program:
    """A compiled program with its arguments.

    Attributes:
      name: of what it computes.
      run: computes it, and waits.
      compile_seconds: tracing and compiling.
      temporaries: bytes beside arguments and results.
    """

    name: str
    run: Callable[[], Any]
    compile_seconds: float
    temporaries: int


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of repeats."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def figures(self, scale: float = 1.0) -> dict[str, float]:
        """Median, fastest and slowest, times scale."""
        low, high = min(self.seconds), max(self.seconds)
        return {"median": self.median * scale, "min": low * scale, "max": high * scale}


def measure(run: Callable[[], Any], repeats: int) -> Timing:
    """Times calls, each waited for; the first one warms up and is not counted."""
    jax.block_until_ready(run())
    return Timing(tuple(timed(run) for _ in range(repeats)))


def timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - started


def random_model(config: ModelConfig, dtype, seed: int = 0) -> DiffusionGemma:
    """Random matrices of the usual scale, made one by one on the device; vectors as at the start.

    Beside the weights it takes memory for the largest matrix twice.
    """
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0), dtype=dtype))
    graphdef, shapes = nnx.split(model)
    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(shapes))))

    def make(path, leaf):
        key, name = next(keys), jax.tree_util.keystr(path)
        if leaf.ndim == 1:
            value = leaf.shape[0] ** -0.5 if "q_norm" in name else 1.0
            return jnp.full(leaf.shape, value, leaf.dtype)
        fan_in = leaf.shape[-1] if "embedding" in name else leaf.shape[-2]
        return _uniform(key, leaf.shape, jnp.dtype(leaf.dtype), (3 / fan_in) ** 0.5)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(make, shapes))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _uniform(key, shape, dtype, limit):
    return jax.random.uniform(key, shape, dtype, -limit, limit)


@dataclasses.dataclass
class Inputs:
    """Arguments of a denoising step: a full cache, a random canvas, a soft embedding.

    Attributes:
      tokens: [B, P] int32, what the cache holds.
      canvas: [B, C] int32.
      soft: [B, C, D].
    """

    structure: Structure
    state: nnx.State
    tokens: jax.Array
    cache: KVCache
    canvas: jax.Array
    soft: jax.Array
    keys: jax.Array

    @property
    def split(self) -> SplitModel:
        return SplitModel.join(self.structure, self.state)

    @property
    def model(self) -> DiffusionGemma:
        return self.split.merge()


def make_inputs(model: DiffusionGemma, batch: int, context: int, chunk: int) -> Inputs:
    config = model.config
    split = SplitModel(model)
    tokens, canvas, soft, keys = jax.random.split(jax.random.key(1), 4)
    tokens = jax.random.randint(tokens, (batch, context), 0, config.vocab_size)
    shape = (batch, config.canvas_size)
    cache = prefill(split, tokens, jnp.ones(tokens.shape, bool), context, chunk)
    return Inputs(
        split.structure,
        split.state,
        tokens,
        cache,
        jax.random.randint(canvas, shape, 0, config.vocab_size),
        jax.random.normal(soft, (*shape, config.width), model.dtype),
        jax.random.split(keys, batch),
    )


def step_programs(inputs: Inputs, steps: int, only: str | None = None) -> list[Program]:
    """The loop of `steps` denoising steps as the sampler runs it, and the parts of one step.

    "layers" has all but the head, from tokens to the final norm. "attention" and "moe" are those
    modules of all layers, one after another on the residual stream. "head + sampling" starts from
    the last hidden states. `only` one of them, or all.
    """
    structure, state, cache, canvas = inputs.structure, inputs.state, inputs.cache, inputs.canvas
    config = inputs.model.config
    sampler = SamplerConfig(
        max_steps=steps, early_stop=False, canvas_size=canvas.shape[1], stop_ids=()
    )
    done = jnp.zeros(canvas.shape[:1], bool)

    def loop() -> Program:
        rest = inputs.keys, done, 0, canvas.shape[1], sampler
        return _compiled("steps", denoise_canvas, inputs.split, cache, *rest)

    def part(name: str, function: Callable, *args) -> Program:
        def run(state, *args):
            return function(structure.merge(state), *args)

        return _compiled(name, jax.jit(run), state, *args)

    def layers(model, canvas, cache, soft):
        return model.canvas_states(canvas, cache, soft)

    def attention(model, x, cache):
        contexts = denoise_contexts(config, cache, *canvas.shape)
        for kind, block, kept in zip(config.layer_types, model.layers, cache.layers, strict=True):
            x = x + block.attention(block.pre_attention_norm(x), kept, contexts[kind])[0]
        return x

    def moe(model, x):
        for block in model.layers:
            x = x + block.moe(block.pre_moe_norm(x), residual=x)
        return x

    def sampling(model, x, canvas, soft, keys):
        return entropy_bound_rule(propose(_Head(model, x), None, canvas, soft, 1, keys, sampler))

    made = {
        "steps": loop,
        "layers": lambda: part("layers", layers, canvas, cache, inputs.soft),
        "attention": lambda: part("attention", attention, inputs.soft, cache),
        "moe": lambda: part("moe", moe, inputs.soft),
        "head + sampling": lambda: part(
            "head + sampling", sampling, inputs.soft, canvas, inputs.soft, inputs.keys
        ),
    }
    return [make() for name, make in made.items() if only in (None, name)]


class _Head:
    """A model of which only the head is left."""

    def __init__(self, model: DiffusionGemma, hidden: jax.Array):
        self.config, self._backend = model.config, model.backend
        self._table = model.embedder.embedding[...]
        self._hidden = hidden

    def predict(self, canvas, cache, soft, temperature, noise):
        cap, backend = self.config.softcap, self._backend
        return head.predict(self._hidden, self._table, cap, temperature, noise, backend=backend)


def prefill_program(inputs: Inputs, chunk: int) -> Program:
    """Reads the whole context into an empty cache; compiled by its first call."""
    real = jnp.ones(inputs.tokens.shape, bool)
    length = inputs.tokens.shape[1]

    def run():
        return prefill(inputs.split, inputs.tokens, real, length, chunk)

    return Program("prefill", run, 0.0, 0)


def _compiled(name: str, function, *args) -> Program:
    started = time.perf_counter()
    compiled = function.lower(*args).compile()
    seconds = time.perf_counter() - started
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return Program(name, lambda: function(*args), seconds, temporaries)


def touched_experts(inputs: Inputs) -> list[int]:
    """How many experts of each layer some token of the canvas chooses."""

    @jax.jit
    def count(state, canvas, cache, soft):
        model = inputs.structure.merge(state)
        found = []
        for block in model.layers:
            block.moe = nnx.static(functools.partial(_watched, block.moe, found))
        model.canvas_states(canvas, cache, soft)
        return found

    return [int(n) for n in count(inputs.state, inputs.canvas, inputs.cache, inputs.soft)]


def _watched(moe, found: list[jax.Array], x: jax.Array, residual: jax.Array) -> jax.Array:
    _, experts = moe.router(residual.reshape(-1, residual.shape[-1]))
    num = moe.router.per_expert_scale.shape[0]
    found.append(jnp.sum(jnp.any(experts.reshape(-1, 1) == jnp.arange(num), axis=0)))
    return moe(x, residual=residual)


def floor_bytes(inputs: Inputs, touched: list[int] | None) -> int:
    """What a step cannot but read: all weights once, of experts those touched, and the cache.

    Args:
      touched: of each layer; None: all.
    """
    total = sum(x.nbytes for x in jax.tree.leaves(inputs.cache.layers))
    num_experts = inputs.model.config.num_experts
    for path, leaf in jax.tree_util.tree_leaves_with_path(inputs.state):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        part = 1.0
        if touched and any(stack in name for stack in EXPERTS):
            part = touched[int(name.split(".")[1])] / num_experts
        total += int(leaf.nbytes * part)
    return total


def floor_flops(config: ModelConfig, batch: int) -> int:
    """Multiplications and additions of a step's matmuls, attention's scores left out."""
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
    weights = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(model)):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if leaf.ndim > 1:
            part = config.top_k / config.num_experts if any(e in name for e in EXPERTS) else 1.0
            part = 2.0 if "embedding" in name else part  # the head and the soft embedding
            weights += leaf.size * part
    return int(2 * weights * batch * config.canvas_size)


def copy_bandwidth(repeats: int = 10) -> float:
    """Bytes a second, read and written, of a copy much larger than any cache."""
    size = 1 << (30 if jax.default_backend() == "gpu" else 26)
    x = jnp.arange(size, dtype=jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / min(measure(lambda: copy(x), repeats).seconds)


def matmul_rate(dtype, repeats: int = 5) -> float:
    """Floating-point operations a second of a large matmul."""
    size = 8192 if jax.default_backend() == "gpu" else 1536
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / min(measure(lambda: product(x, x), repeats).seconds)
